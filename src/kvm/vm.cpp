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

Result<int> Vm::check_extension(int capability) const {
    return value({KVM_CHECK_EXTENSION, "KVM_CHECK_EXTENSION"},
                 static_cast<std::uint64_t>(capability));
}

Result<void> Vm::enable_cap(const kvm_enable_cap& capability) const {
    return set<kvm_enable_cap>({KVM_ENABLE_CAP, "KVM_ENABLE_CAP"}, capability);
}

Result<void> Vm::set_user_memory_region(const kvm_userspace_memory_region& region) const {
    return set<kvm_userspace_memory_region>(
        {KVM_SET_USER_MEMORY_REGION, "KVM_SET_USER_MEMORY_REGION"}, region);
}

Result<void> Vm::set_user_memory_region2(const abi::UserMemoryRegion2& region) const {
    return set<abi::UserMemoryRegion2>(
        {abi::set_user_memory_region2, "KVM_SET_USER_MEMORY_REGION2"}, region);
}

Result<int> Vm::reset_dirty_rings() const {
    return value({KVM_RESET_DIRTY_RINGS, "KVM_RESET_DIRTY_RINGS"});
}

Result<void> Vm::create_irqchip() const {
    return command({KVM_CREATE_IRQCHIP, "KVM_CREATE_IRQCHIP"});
}

Result<void> Vm::irq_line(std::uint32_t gsi, bool level) const {
    kvm_irq_level line{};
    line.irq = gsi;
    line.level = level ? 1 : 0;
    return set<kvm_irq_level>({KVM_IRQ_LINE, "KVM_IRQ_LINE"}, line);
}

Result<void> Vm::irqfd(const kvm_irqfd& irqfd) const {
    return set<kvm_irqfd>({KVM_IRQFD, "KVM_IRQFD"}, irqfd);
}

Result<void> Vm::ioeventfd(const kvm_ioeventfd& ioeventfd) const {
    return set<kvm_ioeventfd>({KVM_IOEVENTFD, "KVM_IOEVENTFD"}, ioeventfd);
}

Result<void> Vm::set_gsi_routing(std::span<const kvm_irq_routing_entry> entries) const {
    return in_array<abi::IrqRoutingHeader>({abi::set_gsi_routing, "KVM_SET_GSI_ROUTING"},
                                           {static_cast<std::uint32_t>(entries.size()), 0}, entries)
        .map([](int) {});
}

Result<bool> Vm::signal_msi(const kvm_msi& msi) const {
    return in<kvm_msi>({KVM_SIGNAL_MSI, "KVM_SIGNAL_MSI"}, msi).map([](int delivered) {
        return delivered > 0;
    });
}

Result<Device> Vm::create_device(std::uint32_t type) const {
    return inout<kvm_create_device>({KVM_CREATE_DEVICE, "KVM_CREATE_DEVICE"}, {type, 0, 0})
        .map([](const kvm_create_device& made) {
            return Device::adopt(Fd::own(static_cast<int>(made.fd)));
        });
}

Result<Fd> Vm::get_stats_fd() const {
    return value({KVM_GET_STATS_FD, "KVM_GET_STATS_FD"}).map(Fd::own);
}

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
             "use Linux 5.11 or later on x86-64, 6.2 or later on arm64, or track by bitmap"});
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

Result<void> Vm::enable_dirty_ring_bitmap() const {
    constexpr const char* operation = "KVM_ENABLE_CAP(KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP)";
    Result<int> offered = check_extension(abi::cap_dirty_log_ring_with_bitmap);
    if (!offered) {
        return fail(std::move(offered.error()));
    }
    if (*offered == 0) {
        return fail(
            {EOPNOTSUPP, operation, "this kernel's KVM does not offer it",
             "use the ring alone; arm64 has the bitmap from Linux 6.2 on, x86-64 needs none"});
    }
    kvm_enable_cap request{};
    request.cap = abi::cap_dirty_log_ring_with_bitmap;
    Result<void> enabled = enable_cap(request);
    if (!enabled) {
        Error& error = enabled.error();
        error.operation = operation;
        if (error.code == EINVAL) {
            error.cause = "the VM has no dirty rings yet, or a memory slot already";
            error.remedy = "call enable_dirty_ring before, and make memory slots after";
        }
    }
    return enabled;
}

Result<void> Vm::get_dirty_log(std::uint32_t slot, std::span<std::uint64_t> bitmap) const {
    kvm_dirty_log log{};
    log.slot = slot;
    log.dirty_bitmap = bitmap.data();
    Result<void> got = set<kvm_dirty_log>({KVM_GET_DIRTY_LOG, "KVM_GET_DIRTY_LOG"}, log);
    if (!got && got.error().code == ENXIO) {
        got.error().cause = "this VM has dirty rings and no bitmap";
        got.error().remedy = "read its rings, or call enable_dirty_ring_bitmap where KVM has it";
    }
    return got;
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

#if defined(__x86_64__)

Result<kvm_irqchip> Vm::get_irqchip(std::uint32_t chip_id) const {
    kvm_irqchip chip{};
    chip.chip_id = chip_id;
    return inout<kvm_irqchip>({KVM_GET_IRQCHIP, "KVM_GET_IRQCHIP"}, chip);
}

Result<void> Vm::set_irqchip(const kvm_irqchip& chip) const {
    return set<kvm_irqchip>({KVM_SET_IRQCHIP, "KVM_SET_IRQCHIP"}, chip);
}

Result<void> Vm::create_pit2(const kvm_pit_config& config) const {
    return set<kvm_pit_config>({KVM_CREATE_PIT2, "KVM_CREATE_PIT2"}, config);
}

Result<kvm_pit_state2> Vm::get_pit2() const {
    return out<kvm_pit_state2>({KVM_GET_PIT2, "KVM_GET_PIT2"});
}

Result<void> Vm::set_pit2(const kvm_pit_state2& state) const {
    return set<kvm_pit_state2>({KVM_SET_PIT2, "KVM_SET_PIT2"}, state);
}

Result<kvm_clock_data> Vm::get_clock() const {
    return out<kvm_clock_data>({KVM_GET_CLOCK, "KVM_GET_CLOCK"});
}

Result<void> Vm::set_clock(const kvm_clock_data& clock) const {
    return set<kvm_clock_data>({KVM_SET_CLOCK, "KVM_SET_CLOCK"}, clock);
}

Result<void> Vm::set_tss_addr(std::uint64_t guest_address) const {
    return command({KVM_SET_TSS_ADDR, "KVM_SET_TSS_ADDR"}, guest_address);
}

Result<void> Vm::set_identity_map_addr(std::uint64_t guest_address) const {
    return set<__u64>({KVM_SET_IDENTITY_MAP_ADDR, "KVM_SET_IDENTITY_MAP_ADDR"}, guest_address);
}

Result<std::uint32_t> Vm::get_tsc_khz() const {
    return value({KVM_GET_TSC_KHZ, "KVM_GET_TSC_KHZ"}).map([](int khz) {
        return static_cast<std::uint32_t>(khz);
    });
}

Result<void> Vm::set_tsc_khz(std::uint32_t khz) const {
    return command({KVM_SET_TSC_KHZ, "KVM_SET_TSC_KHZ"}, khz);
}

Result<std::size_t> Vm::xsave_size() const {
    return check_extension(KVM_CAP_XSAVE2).map([](int bytes) {
        return static_cast<std::size_t>(bytes);
    });
}

#endif

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
