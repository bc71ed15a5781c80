// SPDX-License-Identifier: MIT
#include "every_call.hpp"

#include <array>
#include <utility>
#include <vector>

#include "dirtyring/kvm/run.hpp"
#include "dirtyring/kvm/stats.hpp"
#include "dirtyring/kvm/system.hpp"
#include "dirtyring/probe.hpp"
#include "dirtyring/ring.hpp"

namespace dirtyring {

namespace {

using kvm::Device;
using kvm::Fd;
using kvm::Run;
using kvm::Stats;
using kvm::System;
using kvm::Vcpu;
using kvm::Vm;

template <typename T>
std::optional<Error> error_of(const Result<T>& result) {
    return result ? std::nullopt : std::optional(result.error());
}

template <typename Adopt, typename Call>
LibraryCall on(DescriptorKind kind, const char* operation, Adopt adopt, Call call) {
    return {operation, kind, [adopt, call](Fd fd) {
                auto handle = adopt(std::move(fd));
                return error_of(call(handle));
            }};
}

template <typename Call>
LibraryCall on_system(const char* operation, Call call) {
    return on(DescriptorKind::system, operation, System::adopt, call);
}
template <typename Call>
LibraryCall on_vm(const char* operation, Call call) {
    return on(DescriptorKind::vm, operation, [](Fd fd) { return Vm::adopt(std::move(fd)); }, call);
}
template <typename Call>
LibraryCall on_vcpu(const char* operation, Call call) {
    return on(
        DescriptorKind::vcpu, operation, [](Fd fd) { return Vcpu::adopt(std::move(fd)); }, call);
}
/// A vCPU with the sizes that its descriptor does not tell.
template <typename Call>
LibraryCall on_sized_vcpu(const char* operation, Call call) {
    return on(
        DescriptorKind::vcpu, operation,
        [](Fd fd) { return Vcpu::adopt(std::move(fd), 0x3000, 256, 4096); }, call);
}
template <typename Call>
LibraryCall on_device(const char* operation, Call call) {
    return on(DescriptorKind::device, operation, Device::adopt, call);
}

std::array<std::uint64_t, 4> bitmap{};
constexpr std::uint32_t msrs[] = {0x10};
constexpr kvm_msr_entry msr_values[] = {{0x10, 0, 0}};
constexpr std::uint64_t one_reg = KVM_REG_SIZE_U64;

std::span<std::byte> eight_bytes() {
    static std::array<std::byte, 8> bytes{};
    return bytes;
}

std::vector<std::byte> nested_state() {
    std::vector<std::byte> state(sizeof(kvm::abi::NestedStateHeader));
    state[4] = std::byte{sizeof(kvm::abi::NestedStateHeader)};  // its size, little-endian
    return state;
}

// One line a call: clang-format would make it five.
// clang-format off
const LibraryCall calls[] = {
    on_system("KVM_GET_API_VERSION", [](const System& s) { return s.api_version(); }),
    on_system("KVM_CHECK_EXTENSION", [](const System& s) { return s.check_extension(1); }),
    on_system("KVM_CHECK_EXTENSION", [](const System& s) { return s.recommended_vcpus(); }),
    on_system("KVM_CHECK_EXTENSION", [](const System& s) { return s.max_vcpus(); }),
    on_system("KVM_CHECK_EXTENSION", [](const System& s) { return s.max_vcpu_id(); }),
    on_system("KVM_CHECK_EXTENSION", [](const System& s) { return s.memory_slots(); }),
    on_system("KVM_GET_VCPU_MMAP_SIZE", [](const System& s) { return s.vcpu_mmap_size(); }),
    on_system("KVM_GET_SUPPORTED_CPUID", [](const System& s) { return s.get_supported_cpuid(); }),
    on_system("KVM_GET_EMULATED_CPUID", [](const System& s) { return s.get_emulated_cpuid(); }),
    on_system("KVM_GET_MSR_INDEX_LIST", [](const System& s) { return s.get_msr_index_list(); }),
    on_system("KVM_GET_MSR_FEATURE_INDEX_LIST", [](const System& s) { return s.get_msr_feature_index_list(); }),
    on_system("KVM_GET_MSRS", [](const System& s) { return s.get_msrs(msrs); }),
    on_system("KVM_GET_VCPU_MMAP_SIZE", [](const System& s) { return s.create_vm(); }),

    on_vm("KVM_CHECK_EXTENSION", [](const Vm& v) { return v.check_extension(1); }),
    on_vm("KVM_CHECK_EXTENSION", [](const Vm& v) { return v.xsave_size(); }),
    on_vm("KVM_CHECK_EXTENSION", [](const Vm& v) { return probe(v); }),
    on_vm("KVM_CHECK_EXTENSION", [](Vm& v) { return v.enable_dirty_ring(1024); }),
    on_vm("KVM_CHECK_EXTENSION", [](const Vm& v) { return v.enable_dirty_ring_bitmap(); }),
    on_vm("KVM_ENABLE_CAP", [](const Vm& v) { return v.enable_cap({}); }),
    on_vm("KVM_SET_USER_MEMORY_REGION", [](const Vm& v) { return v.set_user_memory_region({}); }),
    on_vm("KVM_SET_USER_MEMORY_REGION2", [](const Vm& v) { return v.set_user_memory_region2({}); }),
    on_vm("KVM_GET_DIRTY_LOG", [](const Vm& v) { return v.get_dirty_log(0, bitmap); }),
    on_vm("KVM_CLEAR_DIRTY_LOG", [](const Vm& v) { return v.clear_dirty_log(0, 0, 64, bitmap); }),
    on_vm("KVM_RESET_DIRTY_RINGS", [](const Vm& v) { return v.reset_dirty_rings(); }),
    on_vm("KVM_CREATE_IRQCHIP", [](const Vm& v) { return v.create_irqchip(); }),
    on_vm("KVM_IRQ_LINE", [](const Vm& v) { return v.irq_line(0, true); }),
    on_vm("KVM_IRQFD", [](const Vm& v) { return v.irqfd({}); }),
    on_vm("KVM_IOEVENTFD", [](const Vm& v) { return v.ioeventfd({}); }),
    on_vm("KVM_SET_GSI_ROUTING", [](const Vm& v) { return v.set_gsi_routing({}); }),
    on_vm("KVM_SIGNAL_MSI", [](const Vm& v) { return v.signal_msi({}); }),
    on_vm("KVM_CREATE_DEVICE", [](const Vm& v) { return v.create_device(KVM_DEV_TYPE_VFIO); }),
    on_vm("KVM_GET_STATS_FD", [](const Vm& v) { return v.get_stats_fd(); }),
    on_vm("KVM_GET_IRQCHIP", [](const Vm& v) { return v.get_irqchip(0); }),
    on_vm("KVM_SET_IRQCHIP", [](const Vm& v) { return v.set_irqchip({}); }),
    on_vm("KVM_CREATE_PIT2", [](const Vm& v) { return v.create_pit2(); }),
    on_vm("KVM_GET_PIT2", [](const Vm& v) { return v.get_pit2(); }),
    on_vm("KVM_SET_PIT2", [](const Vm& v) { return v.set_pit2({}); }),
    on_vm("KVM_GET_CLOCK", [](const Vm& v) { return v.get_clock(); }),
    on_vm("KVM_SET_CLOCK", [](const Vm& v) { return v.set_clock({}); }),
    on_vm("KVM_SET_TSS_ADDR", [](const Vm& v) { return v.set_tss_addr(0xfeffd000); }),
    on_vm("KVM_SET_IDENTITY_MAP_ADDR", [](const Vm& v) { return v.set_identity_map_addr(0); }),
    on_vm("KVM_GET_TSC_KHZ", [](const Vm& v) { return v.get_tsc_khz(); }),
    on_vm("KVM_SET_TSC_KHZ", [](const Vm& v) { return v.set_tsc_khz(0); }),
    on_vm("KVM_CREATE_VCPU", [](Vm& v) { return v.create_vcpu(0); }),

    on_vcpu("KVM_SET_SIGNAL_MASK", [](const Vcpu& v) { return v.set_signal_mask({}); }),
    on_vcpu("KVM_SET_SIGNAL_MASK", [](const Vcpu& v) { return v.clear_signal_mask(); }),
    on_vcpu("KVM_GET_MP_STATE", [](const Vcpu& v) { return v.get_mp_state(); }),
    on_vcpu("KVM_SET_MP_STATE", [](const Vcpu& v) { return v.set_mp_state({}); }),
    on_vcpu("KVM_GET_VCPU_EVENTS", [](const Vcpu& v) { return v.get_vcpu_events(); }),
    on_vcpu("KVM_SET_VCPU_EVENTS", [](const Vcpu& v) { return v.set_vcpu_events({}); }),
    on_vcpu("KVM_SET_GUEST_DEBUG", [](const Vcpu& v) { return v.set_guest_debug({}); }),
    on_vcpu("KVM_GET_REG_LIST", [](const Vcpu& v) { return v.get_reg_list(); }),
    on_vcpu("KVM_GET_ONE_REG", [](const Vcpu& v) { return v.get_one_reg(one_reg, eight_bytes()); }),
    on_vcpu("KVM_SET_ONE_REG", [](const Vcpu& v) { return v.set_one_reg(one_reg, eight_bytes()); }),
    on_vcpu("KVM_GET_STATS_FD", [](const Vcpu& v) { return v.get_stats_fd(); }),
    on_vcpu("KVM_GET_REGS", [](const Vcpu& v) { return v.get_regs(); }),
    on_vcpu("KVM_SET_REGS", [](const Vcpu& v) { return v.set_regs({}); }),
    on_vcpu("KVM_GET_SREGS", [](const Vcpu& v) { return v.get_sregs(); }),
    on_vcpu("KVM_SET_SREGS", [](const Vcpu& v) { return v.set_sregs({}); }),
    on_vcpu("KVM_GET_SREGS2", [](const Vcpu& v) { return v.get_sregs2(); }),
    on_vcpu("KVM_SET_SREGS2", [](const Vcpu& v) { return v.set_sregs2({}); }),
    on_vcpu("KVM_GET_FPU", [](const Vcpu& v) { return v.get_fpu(); }),
    on_vcpu("KVM_SET_FPU", [](const Vcpu& v) { return v.set_fpu({}); }),
    on_vcpu("KVM_GET_XSAVE", [](const Vcpu& v) { return v.get_xsave(); }),
    on_sized_vcpu("KVM_GET_XSAVE2", [](const Vcpu& v) { return v.get_xsave(); }),
    on_vcpu("KVM_SET_XSAVE", [](const Vcpu& v) { return v.set_xsave(std::vector<std::byte>(4096)); }),
    on_vcpu("KVM_GET_XCRS", [](const Vcpu& v) { return v.get_xcrs(); }),
    on_vcpu("KVM_SET_XCRS", [](const Vcpu& v) { return v.set_xcrs({}); }),
    on_vcpu("KVM_GET_MSRS", [](const Vcpu& v) { return v.get_msrs(msrs); }),
    on_vcpu("KVM_SET_MSRS", [](const Vcpu& v) { return v.set_msrs(msr_values); }),
    on_vcpu("KVM_GET_CPUID2", [](const Vcpu& v) { return v.get_cpuid2(); }),
    on_vcpu("KVM_SET_CPUID2", [](const Vcpu& v) { return v.set_cpuid2({}); }),
    on_vcpu("KVM_GET_LAPIC", [](const Vcpu& v) { return v.get_lapic(); }),
    on_vcpu("KVM_SET_LAPIC", [](const Vcpu& v) { return v.set_lapic({}); }),
    on_vcpu("KVM_GET_DEBUGREGS", [](const Vcpu& v) { return v.get_debugregs(); }),
    on_vcpu("KVM_SET_DEBUGREGS", [](const Vcpu& v) { return v.set_debugregs({}); }),
    on_vcpu("KVM_GET_NESTED_STATE", [](const Vcpu& v) { return v.get_nested_state(); }),
    on_vcpu("KVM_SET_NESTED_STATE", [](const Vcpu& v) { return v.set_nested_state(nested_state()); }),
    on_vcpu("KVM_GET_TSC_KHZ", [](const Vcpu& v) { return v.get_tsc_khz(); }),
    on_vcpu("KVM_SET_TSC_KHZ", [](const Vcpu& v) { return v.set_tsc_khz(0); }),
    on_vcpu("KVM_KVMCLOCK_CTRL", [](const Vcpu& v) { return v.kvmclock_ctrl(); }),
    on_vcpu("KVM_INTERRUPT", [](const Vcpu& v) { return v.interrupt(32); }),
    on_vcpu("KVM_NMI", [](const Vcpu& v) { return v.nmi(); }),
    on_vcpu("KVM_SMI", [](const Vcpu& v) { return v.smi(); }),
    on_vcpu("KVM_TRANSLATE", [](const Vcpu& v) { return v.translate(0); }),
    on_sized_vcpu("mmap(kvm_run", [](const Vcpu& v) { return Run::map(v); }),
    on_sized_vcpu("mmap(dirty ring", [](const Vcpu& v) { return Ring::map(v); }),
    on_vcpu("mmap(dirty ring", [](const Vcpu& v) { return Ring::adopt(v.fd()); }),

    on_device("KVM_HAS_DEVICE_ATTR", [](const Device& d) { return d.has_attr(1, 1); }),
    on_device("KVM_GET_DEVICE_ATTR", [](const Device& d) { return d.get_attr<std::int32_t>(1, 1); }),
    on_device("KVM_SET_DEVICE_ATTR", [](const Device& d) { return d.set_attr(1, 1, 0); }),

    {"pread(KVM statistics)", DescriptorKind::stats, [](Fd fd) { return error_of(Stats::adopt(std::move(fd))); }},
};
// clang-format on

}  // namespace

std::span<const LibraryCall> every_call() {
    return calls;
}

}  // namespace dirtyring
