// SPDX-License-Identifier: MIT
#include "guest_memory.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <memory>

#include "config.hpp"

namespace dirtyring::machine {

Result<GuestMemory> GuestMemory::map(std::uint64_t bytes, bool huge_pages) {
    const std::string operation = "mmap(guest memory, " + std::to_string(bytes >> 20) + " MiB)";
    GuestMemory memory;
    const std::size_t mapped = bytes + memory_granule;  // room to align it
    // SAFETY: a fresh mapping of the kernel's choosing that only this object knows and undoes.
    void* mapping = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) {
        return fail({errno,
                     operation,
                     {},
                     "give the guest less memory, or lift the host's limits (ulimit -v, "
                     "vm.overcommit_memory)"});
    }
    memory.mapping_ = mapping;
    memory.mapped_ = mapped;
    void* aligned = mapping;
    std::size_t room = mapped;
    std::align(memory_granule, bytes, aligned, room);
    memory.bytes_ = {static_cast<std::byte*>(aligned), bytes};
    // A kernel without huge pages refuses both kinds of advice with EINVAL; not to use them is then
    // what happens anyway.
    if (::madvise(aligned, bytes, huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) < 0 &&
        (huge_pages || errno != EINVAL)) {
        return fail({errno,
                     huge_pages ? "madvise(guest memory, MADV_HUGEPAGE)"
                                : "madvise(guest memory, MADV_NOHUGEPAGE)",
                     {},
                     huge_pages ? "do without huge pages, which this host's kernel may lack" : ""});
    }
    return memory;
}

GuestMemory::~GuestMemory() {
    if (mapping_ != nullptr) {
        // munmap of a whole mapping that exists cannot fail.
        static_cast<void>(::munmap(mapping_, mapped_));
    }
}

}  // namespace dirtyring::machine
