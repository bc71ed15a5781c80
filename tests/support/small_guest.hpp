// SPDX-License-Identifier: MIT
//
// A VM of 64 KiB with one vCPU in real mode, for tests of single calls.
#pragma once

#include <sys/mman.h>

#include <array>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <system_error>

#include "dirtyring/kvm/run.hpp"
#include "dirtyring/kvm/system.hpp"
#include "must.hpp"

namespace dirtyring {

/// Anonymous memory of whole pages, zero at first.
class HostMemory {
  public:
    explicit HostMemory(std::size_t bytes)
        // SAFETY: the kernel picks the place; only this object undoes it.
        : address_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)),
          bytes_(bytes) {
        if (address_ == MAP_FAILED) {
            throw std::system_error(errno, std::generic_category(), "mmap");
        }
    }
    HostMemory(const HostMemory&) = delete;
    HostMemory& operator=(const HostMemory&) = delete;
    ~HostMemory() { munmap(address_, bytes_); }

    [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(address_); }
    [[nodiscard]] std::size_t size() const { return bytes_; }

  private:
    void* address_;
    std::size_t bytes_;
};

/// The slot with id 0, at guest address 0.
inline kvm_userspace_memory_region slot_of(const HostMemory& memory, std::uint32_t flags = 0) {
    // SAFETY: the memory outlives the VM in SmallGuest, and no test keeps the VM longer elsewhere.
    return {0, flags, 0, memory.size(), reinterpret_cast<std::uint64_t>(memory.data())};
}

struct SmallGuest {
    static constexpr std::uint64_t entry = 0x1000;

    /// `code` is 16-bit machine code, put at `entry`, where the vCPU starts. `prepare` is called
    /// before the vCPU is made.
    SmallGuest(const kvm::System& system, std::initializer_list<std::uint8_t> code,
               const std::function<void(kvm::Vm&)>& prepare = {}, std::uint32_t slot_flags = 0)
        : memory(0x10000),
          vm(must(system.create_vm())),
          vcpu(make_vcpu(code, prepare, slot_flags)),
          run(must(kvm::Run::map(vcpu))) {
        kvm_sregs sregs = must(vcpu.get_sregs());
        sregs.cs.base = 0;
        sregs.cs.selector = 0;
        must(vcpu.set_sregs(sregs));
        kvm_regs regs = must(vcpu.get_regs());
        regs.rip = entry;
        regs.rsp = 0x8000;
        regs.rflags = 2;
        must(vcpu.set_regs(regs));
    }

    /// Runs to the next exit, which must be an E.
    template <typename E>
    E run_to() {
        const kvm::Exit exit = must(run.run());
        if (const E* expected = std::get_if<E>(&exit)) {
            return *expected;
        }
        throw std::runtime_error("the vCPU left the guest for another reason: KVM_EXIT " +
                                 std::to_string(run.raw().exit_reason));
    }

    HostMemory memory;  // first, so that it goes last
    kvm::Vm vm;
    kvm::Vcpu vcpu;
    kvm::Run run;

  private:
    kvm::Vcpu make_vcpu(std::initializer_list<std::uint8_t> code,
                        const std::function<void(kvm::Vm&)>& prepare, std::uint32_t slot_flags) {
        std::memcpy(memory.data() + entry, std::data(code), code.size());
        if (prepare) {
            prepare(vm);
        }
        must(vm.set_user_memory_region(slot_of(memory, slot_flags)));
        return must(vm.create_vcpu(0));
    }
};

}  // namespace dirtyring
