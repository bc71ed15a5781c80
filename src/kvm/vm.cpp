// SPDX-License-Identifier: MIT
#include "dirtyring/kvm/vm.hpp"

#include <bit>
#include <cerrno>

#include "../sys.hpp"

namespace dirtyring::kvm {

namespace {

// virt/kvm/dirty_ring.c: a ring is at least a page, at most KVM_DIRTY_RING_MAX_ENTRIES.
constexpr std::uint32_t least_entries = 4096 / sizeof(kvm_dirty_gfn);
// 64 reserved entries and the 512 of Intel's page-modification log, rounded up to a power of two.
constexpr std::uint32_t least_entries_with_pml = 1024;

std::uint32_t nearest_power_of_two(std::uint32_t n) {
    const std::uint32_t below = std::bit_floor(n);
    const std::uint64_t above = std::uint64_t{below} * 2;
    return n - below <= above - n ? below : static_cast<std::uint32_t>(above);
}

std::string entries_text(std::uint32_t entries) {
    return std::to_string(entries) + " entries";
}

}  // namespace

Result<void> Vm::enable_dirty_ring(std::uint32_t entries) {
    const std::string operation = "enable_dirty_ring(" + std::to_string(entries) + ")";
    int capability = abi::cap_dirty_log_ring_acq_rel;
    const char* name = "KVM_CAP_DIRTY_LOG_RING_ACQ_REL";
    Result<int> largest_bytes = check_extension(capability);
    if (largest_bytes && *largest_bytes == 0) {
        capability = KVM_CAP_DIRTY_LOG_RING;
        name = "KVM_CAP_DIRTY_LOG_RING";
        largest_bytes = check_extension(capability);
    }
    if (!largest_bytes) {
        return fail(std::move(largest_bytes.error()));
    }
    if (*largest_bytes == 0) {
        return fail(
            {EOPNOTSUPP, operation, "this kernel's KVM has no dirty ring",
             "use Linux 5.11 or later on x86-64, 6.1 or later on arm64, or track by bitmap"});
    }
    const auto most = static_cast<std::uint32_t>(static_cast<std::size_t>(*largest_bytes) /
                                                 sizeof(kvm_dirty_gfn));
    if (ring_entries_ != 0) {
        return fail({EINVAL, operation,
                     "this VM already has dirty rings of " + entries_text(ring_entries_),
                     "enable the ring once for each VM"});
    }
    if (vcpus_made_ != 0) {
        return fail({EINVAL, operation, "this VM already has a vCPU",
                     "enable the ring before the first vCPU is made"});
    }
    if (entries > most) {
        return fail({E2BIG, operation, "a ring holds at most " + entries_text(most),
                     "use " + std::to_string(most)});
    }
    if (entries < least_entries) {
        return fail({EINVAL, operation, "a ring holds at least " + entries_text(least_entries),
                     "use " + std::to_string(least_entries) + " or, on Intel with PML, " +
                         std::to_string(least_entries_with_pml)});
    }
    if (!std::has_single_bit(entries)) {
        return fail({EINVAL, operation, "a ring's size is a power of two",
                     "use " + std::to_string(nearest_power_of_two(entries))});
    }
    kvm_enable_cap request{};
    request.cap = static_cast<std::uint32_t>(capability);
    request.args[0] = std::uint64_t{entries} * sizeof(kvm_dirty_gfn);
    Result<void> enabled = enable_cap(request);
    if (!enabled) {
        Error& error = enabled.error();
        error.operation =
            std::string("KVM_ENABLE_CAP(") + name + ", " + entries_text(entries) + ")";
        if (error.code == EINVAL) {
            error.cause = entries < least_entries_with_pml
                              ? "the VM has a vCPU or a ring already, or this host logs pages in "
                                "hardware (PML) and needs larger rings"
                              : "the VM has a vCPU or a ring already";
            error.remedy = "enable the ring once, before the first vCPU";
            if (entries < least_entries_with_pml) {
                error.remedy += ", with at least " + entries_text(least_entries_with_pml);
            }
        }
        return fail(std::move(error));
    }
    ring_entries_ = entries;
    return {};
}

Result<void> Vm::get_dirty_log(std::uint32_t slot, std::span<std::uint64_t> bitmap) const {
    kvm_dirty_log log{};
    log.slot = slot;
    log.dirty_bitmap = bitmap.data();
    return set<kvm_dirty_log>({KVM_GET_DIRTY_LOG, "KVM_GET_DIRTY_LOG"}, log);
}

Result<void> Vm::clear_dirty_log(std::uint32_t slot, std::uint64_t first_page, std::uint32_t pages,
                                 std::span<const std::uint64_t> bitmap) const {
    kvm_clear_dirty_log log{};
    log.slot = slot;
    log.num_pages = pages;
    log.first_page = first_page;
    // The ABI's pointer is to non-const; the kernel only reads the bits (virt/kvm/kvm_main.c,
    // kvm_clear_dirty_log_protect).
    log.dirty_bitmap = const_cast<std::uint64_t*>(bitmap.data());
    return set<kvm_clear_dirty_log>({KVM_CLEAR_DIRTY_LOG, "KVM_CLEAR_DIRTY_LOG"}, log);
}

Result<Vcpu> Vm::create_vcpu(std::uint32_t id) {
    Result<int> fd = value({KVM_CREATE_VCPU, "KVM_CREATE_VCPU"}, id);
    if (!fd) {
        return fail(std::move(fd.error()));
    }
    Fd owned = Fd::own(*fd);
    ++vcpus_made_;
#if defined(__x86_64__)
    // Asked now: what arch_prctl allows guests is fixed from the first vCPU on.
    Result<std::size_t> xsave = xsave_size();
    if (!xsave) {
        return fail(std::move(xsave.error()));
    }
    return Vcpu::adopt(std::move(owned), vcpu_mmap_size_, ring_entries_, *xsave);
#else
    return Vcpu::adopt(std::move(owned), vcpu_mmap_size_, ring_entries_);
#endif
}

}  // namespace dirtyring::kvm
