// SPDX-License-Identifier: MIT
#include "dirtyring/probe.hpp"

#include <fcntl.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cerrno>

#include "dirtyring/memory.hpp"
#include "host_pages.hpp"
#include "sys.hpp"

namespace dirtyring {

namespace {

/// Asks for one capability after the other, until one cannot be asked for.
class Questions {
  public:
    explicit Questions(const kvm::Vm& vm) : vm_(vm) {}

    std::uint32_t operator()(int capability) {
        if (!outcome_) {
            return 0;
        }
        Result<int> answer = vm_.check_extension(capability);
        if (!answer) {
            outcome_ = fail(std::move(answer.error()));
            return 0;
        }
        return static_cast<std::uint32_t>(*answer);
    }
    [[nodiscard]] const Result<void>& outcome() const { return outcome_; }

  private:
    const kvm::Vm& vm_;
    Result<void> outcome_;
};

Result<void> enable(const kvm::Vm& vm, int capability, std::uint64_t argument) {
    kvm_enable_cap request{};
    request.cap = static_cast<std::uint32_t>(capability);
    request.args[0] = argument;
    return vm.enable_cap(request);
}

/// The smallest ring that the kernel takes. It refuses those that are too small with EINVAL and is
/// none the worse for it (kvm_vm_ioctl_enable_dirty_log_ring).
Result<std::uint32_t> try_ring(kvm::Vm& vm, std::uint32_t largest) {
    std::uint32_t entries = page_size / sizeof(kvm_dirty_gfn);
    Result<void> enabled = vm.enable_dirty_ring(entries);
    while (!enabled && enabled.error().code == EINVAL && entries < largest) {
        entries *= 2;
        enabled = vm.enable_dirty_ring(entries);
    }
    return enabled.map([&] { return entries; });
}

/// Logs one page of memory by bitmap and reads the log.
Result<void> try_bitmap(const kvm::System& system, const VmFacilities& offered, bool manual) {
    alignas(page_size) std::array<std::byte, page_size> memory{};
    if (manual && (offered.manual_protect & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) == 0) {
        return fail({EOPNOTSUPP, "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2",
                     "this kernel's KVM does not offer it", "use Linux 5.2 or later"});
    }
    std::uint64_t bitmap = 0;
    // After the memory, so that it is gone before.
    const Result<kvm::Vm> vm = system.create_vm();
    if (!vm) {
        return fail(vm.error());
    }
    return (manual ? enable(*vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
                            KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE)
                   : Result<void>())
        .and_then([&] {
            // SAFETY: the slot is the array above, page-aligned, and no vCPU ever touches it.
            return vm->set_user_memory_region({0, KVM_MEM_LOG_DIRTY_PAGES, 0, memory.size(),
                                               reinterpret_cast<std::uint64_t>(memory.data())});
        })
        .and_then([&] { return vm->get_dirty_log(0, {&bitmap, 1}); })
        .and_then(
            [&] { return manual ? vm->clear_dirty_log(0, 0, 1, {&bitmap, 1}) : Result<void>(); });
}

template <typename T>
TrackingSupport support(Tracking way, const Result<T>& tried) {
    return {way, tried.has_value(), tried ? std::string() : tried.error().message()};
}

void recommend(HostFacilities& host) {
    struct Reason {
        Tracking way;
        const char* why;
    };
    constexpr Reason best_first[] = {
        {Tracking::ring_with_bitmap,
         "it alone has all that KVM writes: the rings what vCPUs write, the bitmap what is written "
         "without one"},
        {Tracking::ring,
         "its cost follows the pages written, not the size of memory, and it tells which vCPU "
         "wrote"},
        {Tracking::manual_bitmap,
         "there is no ring to be had, and of the bitmaps it re-arms only the pages that were read"},
        {Tracking::bitmap, "it is the only way that works on this kernel"},
    };
    for (const Reason& reason : best_first) {
        if (host.tracking[static_cast<std::size_t>(reason.way)].usable) {
            host.recommended = reason.way;
            host.recommended_why = reason.why;
            return;
        }
    }
    host.recommended_why = "none works here; each says why";
}

// /sys
// ------------------------------------------------------------------------------------------------

bool exists(const std::string& directory) {
    const int fd = sys::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
    return kvm::Fd::own(fd).get() >= 0;
}

/// Empty where the modules in /sys are none or several: built in, they are there without being in
/// use.
std::string kvm_module() {
    std::string found;
    for (const char* name : {"kvm_amd", "kvm_intel", "kvm_pvm"}) {
        if (exists(std::string("/sys/module/") + name)) {
            if (!found.empty()) {
                return {};
            }
            found = name;
        }
    }
    return found;
}

std::optional<bool> hardware_page_log(const std::string& module) {
    if (module == "kvm_amd" || module == "kvm_pvm") {
        return false;  // Intel's alone
    }
    const kvm::Fd fd =
        kvm::Fd::own(sys::open("/sys/module/kvm_intel/parameters/pml", O_RDONLY | O_CLOEXEC));
    char answer = 0;
    if (module.empty() || fd.get() < 0 || sys::pread(fd.get(), &answer, 1, 0) != 1) {
        return std::nullopt;
    }
    return answer == 'Y';
}

}  // namespace

const char* name(Tracking way) noexcept {
    switch (way) {
        case Tracking::ring:
            return "ring";
        case Tracking::ring_with_bitmap:
            return "ring with bitmap";
        case Tracking::bitmap:
            return "bitmap";
        case Tracking::manual_bitmap:
            return "manual bitmap";
    }
    return "unknown";
}

std::uint32_t VmFacilities::largest_ring() const noexcept {
    return static_cast<std::uint32_t>(std::max(ring_bytes, ring_acq_rel_bytes) /
                                      sizeof(kvm_dirty_gfn));
}

Result<VmFacilities> probe(const kvm::Vm& vm) {
    Questions ask(vm);
    const VmFacilities facilities{
        .ring_bytes = ask(KVM_CAP_DIRTY_LOG_RING),
        .ring_acq_rel_bytes = ask(kvm::abi::cap_dirty_log_ring_acq_rel),
        .ring_with_bitmap = ask(kvm::abi::cap_dirty_log_ring_with_bitmap) != 0,
        .manual_protect = ask(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2),
        .memory_slots = ask(KVM_CAP_NR_MEMSLOTS),
        .address_spaces = std::max(1U, ask(KVM_CAP_MULTI_ADDRESS_SPACE)),
        .recommended_vcpus = ask(KVM_CAP_NR_VCPUS),
        .max_vcpus = ask(KVM_CAP_MAX_VCPUS),
        .max_vcpu_id = ask(KVM_CAP_MAX_VCPU_ID),
        .sync_registers = ask(KVM_CAP_SYNC_REGS),
        .immediate_exit = ask(KVM_CAP_IMMEDIATE_EXIT) != 0,
        .xsave_bytes = ask(KVM_CAP_XSAVE2),
        .nested_state_bytes = ask(KVM_CAP_NESTED_STATE),
        .binary_stats = ask(KVM_CAP_BINARY_STATS_FD) != 0,
        .user_memory2 = ask(kvm::abi::cap_user_memory2) != 0,
    };
    return ask.outcome().map([&] { return facilities; });
}

Result<HostFacilities> probe(const kvm::System& system) {
    if (Result<void> pages = check_host_pages("probe"); !pages) {
        return fail(std::move(pages.error()));
    }
    HostFacilities host;
    Result<int> version = system.api_version();
    if (!version) {
        return fail(std::move(version.error()));
    }
    host.api_version = *version;
    utsname about{};
    if (const int result = sys::uname(&about); result < 0) {
        return fail({-result, "uname", {}, {}});
    }
    host.kernel_release = about.release;
    host.kvm_module = kvm_module();
    host.hardware_page_log = hardware_page_log(host.kvm_module);

    Result<kvm::Vm> vm = system.create_vm();
    if (!vm) {
        return fail(std::move(vm.error()));
    }
    Result<VmFacilities> facilities = probe(*vm);
    if (!facilities) {
        return fail(std::move(facilities.error()));
    }
    host.vm = *facilities;

    const Result<std::uint32_t> least = try_ring(*vm, host.vm.largest_ring());
    host.least_ring = least.value_or(0);
    host.tracking = {
        support(Tracking::ring, least),
        support(Tracking::ring_with_bitmap,
                least.and_then([&](std::uint32_t) { return vm->enable_dirty_ring_bitmap(); })),
        support(Tracking::bitmap, try_bitmap(system, host.vm, false)),
        support(Tracking::manual_bitmap, try_bitmap(system, host.vm, true)),
    };
    recommend(host);
    return host;
}

}  // namespace dirtyring
