// SPDX-License-Identifier: MIT
#include "dirtyring/ring.hpp"

#include <sys/mman.h>

#include <bit>
#include <cerrno>

#include "sys.hpp"

namespace dirtyring {

namespace {

// More than any kernel offers so far (65,536); bounds the search for the end of a foreign ring.
constexpr std::size_t most_entries = std::size_t{1} << 20;

// Older C libraries lack the name (Linux 5.14).
constexpr int madv_populate_read = 22;

long ring_offset() {
    return kvm::abi::dirty_log_page_offset * sys::page_size();
}

std::span<kvm_dirty_gfn> entries_of(const kvm::Mapping& mapping) {
    // SAFETY: the kernel lays kvm_dirty_gfn out one after the other from the mapping's start, which
    // is page-aligned; the caller has made sure that the mapping has pages for its whole size.
    return {static_cast<kvm_dirty_gfn*>(mapping.address()),
            mapping.bytes() / sizeof(kvm_dirty_gfn)};
}

/// 1 where there is a page at `offset` of the mapping, 0 where not, or -errno.
int page_exists(const kvm::Mapping& mapping, std::size_t offset) {
    auto* page = static_cast<std::byte*>(mapping.address()) + offset;
    // SAFETY: one page inside the mapping; populating for read neither changes it nor raises a
    // signal.
    const int result =
        sys::madvise(page, static_cast<std::size_t>(sys::page_size()), madv_populate_read);
    return result == -EFAULT ? 0 : result == 0 ? 1 : result;
}

/// Bytes of the ring behind `mapping`, which is larger than any ring; 0 where there is none.
Result<std::size_t> true_size(const kvm::Mapping& mapping) {
    // A ring's size is a power of two, at least a page, so these are the only ends it can have.
    std::size_t size = 0;
    for (auto end = static_cast<std::size_t>(sys::page_size()); size < mapping.bytes();
         size = end, end *= 2) {
        const int exists = page_exists(mapping, size);
        if (exists < 0) {
            return fail({-exists, "madvise(dirty ring, MADV_POPULATE_READ)",
                         "the size of this ring cannot be found out",
                         -exists == EINVAL ? "use Linux 5.14 or later, or give Vcpu::adopt the size"
                                           : std::string()});
        }
        if (exists == 0) {
            break;
        }
    }
    return size;
}

Error no_ring(const char* operation, const char* remedy) {
    return {ENXIO, operation, "this vCPU has no dirty ring", remedy};
}

}  // namespace

Ring::Ring(kvm::Mapping mapping, std::span<kvm_dirty_gfn> entries) noexcept
    : mapping_(std::move(mapping)),
      entries_(entries.data()),
      mask_(static_cast<std::uint32_t>(entries.size()) - 1) {}

Result<Ring> Ring::map(const kvm::Vcpu& vcpu) {
    if (vcpu.dirty_ring_entries() == 0) {
        return fail(no_ring("Ring::map",
                            "call Vm::enable_dirty_ring before the first vCPU is made; for a vCPU "
                            "of another program use Ring::adopt"));
    }
    // SAFETY: the kernel makes the ring with the vCPU, in the size that enable_dirty_ring gave.
    return map_bytes(vcpu.fd(), vcpu.dirty_ring_entries() * sizeof(kvm_dirty_gfn));
}

Result<Ring> Ring::adopt(const kvm::Fd& vcpu) {
    // SAFETY: nothing of this mapping is touched; it is only asked which of its pages exist.
    Result<kvm::Mapping> probe =
        kvm::Mapping::map(vcpu, most_entries * sizeof(kvm_dirty_gfn), ring_offset(), "dirty ring");
    if (!probe) {
        return fail(std::move(probe.error()));
    }
    Result<std::size_t> bytes = true_size(*probe);
    if (!bytes) {
        return fail(std::move(bytes.error()));
    }
    if (*bytes == 0) {
        return fail(no_ring("Ring::adopt",
                            "enable KVM_CAP_DIRTY_LOG_RING_ACQ_REL on its VM before the first vCPU "
                            "is made"));
    }
    // SAFETY: true_size has seen a page behind every part of it.
    return map_bytes(vcpu, *bytes);
}

Result<Ring> Ring::map_bytes(const kvm::Fd& vcpu, std::size_t bytes) {
    return kvm::Mapping::map(vcpu, bytes, ring_offset(), "dirty ring")
        .map([](kvm::Mapping&& mapping) {
            const std::span<kvm_dirty_gfn> entries = entries_of(mapping);
            return Ring(std::move(mapping), entries);
        });
}

Result<Ring> Ring::over(std::span<kvm_dirty_gfn> entries) {
    if (!std::has_single_bit(entries.size()) || entries.size() > most_entries) {
        return fail({EINVAL,
                     "Ring::over(" + std::to_string(entries.size()) + " entries)",
                     "a ring's size is a power of two, at most " + std::to_string(most_entries),
                     {}});
    }
    return Ring(kvm::Mapping(), entries);
}

void Ring::offer_nothing(std::uint32_t index) noexcept {
    const Batch place(entries_, mask_, index, 1);
    place.rewrite(0, {Batch::no_slot, 0});
    store_flags(at(index), KVM_DIRTY_GFN_F_RESET);
}

std::uint32_t Ring::distance_to_logged() const noexcept {
    std::uint32_t ahead = 0;
    while (ahead < size() && load_flags(at(index_ + ahead)) != KVM_DIRTY_GFN_F_DIRTY) {
        ++ahead;
    }
    return ahead;
}

std::uint32_t Ring::fill() const noexcept {
    std::uint32_t logged = 0;  // so many are, from the index on
    std::uint32_t end = size();
    while (logged < end) {
        const std::uint32_t middle = logged + (end - logged) / 2;
        if (load_flags(at(index_ + middle)) == KVM_DIRTY_GFN_F_DIRTY) {
            logged = middle + 1;
        } else {
            end = middle;
        }
    }
    return logged;
}

bool Ring::out_of_step() const noexcept {
    const std::uint32_t ahead = distance_to_logged();
    // The kernel logs in order: had it logged the entry ahead in step, the one at the index would
    // have been there before, and the acquire on the entry ahead makes it visible by now.
    return ahead != 0 && ahead != size() && peek(1).empty();
}

bool Ring::reset_pending() const noexcept {
    return load_flags(at(index_ - 1)) == KVM_DIRTY_GFN_F_RESET;
}

std::uint32_t Ring::skip_to_logged(VcpuStopped) noexcept {
    bool before = load_flags(at(index_ - 1)) == KVM_DIRTY_GFN_F_DIRTY;
    for (std::uint32_t ahead = 0; ahead < size(); ++ahead) {
        const bool logged = load_flags(at(index_ + ahead)) == KVM_DIRTY_GFN_F_DIRTY;
        if (logged && !before) {
            index_ += ahead;
            return ahead;
        }
        before = logged;
    }
    return 0;
}

void Ring::offer_ahead(std::uint32_t count, VcpuStopped) noexcept {
    for (std::uint32_t i = 0; i < count; ++i) {
        offer_nothing(index_ + i);
    }
    index_ += count;
}

void Ring::offer_behind(std::uint32_t count, VcpuStopped) noexcept {
    for (std::uint32_t i = 1; i <= count; ++i) {
        offer_nothing(index_ - i);
    }
}

std::uint32_t Ring::withdraw_behind(std::uint32_t count, VcpuStopped) noexcept {
    std::uint32_t taken = 0;
    for (std::uint32_t i = 1; i <= count; ++i) {
        if (load_flags(at(index_ - i)) == KVM_DIRTY_GFN_F_RESET) {
            store_flags(at(index_ - i), 0);
        } else {
            ++taken;
        }
    }
    return taken;
}

}  // namespace dirtyring
