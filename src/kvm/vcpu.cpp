// SPDX-License-Identifier: MIT
#include "dirtyring/kvm/vcpu.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#if defined(__x86_64__)
#include "msr_entries.hpp"
#endif

namespace dirtyring::kvm {

namespace {

// A struct kvm_sigset of the kernel: 64 signals, one bit each.
constexpr std::uint32_t kernel_sigset_size = 8;
static_assert(sizeof(sigset_t) >= kernel_sigset_size);

std::string hex(std::uint64_t number) {
    char text[19];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(number));
    return text;
}

// What is wrong with a value of `bytes` bytes for this register.
Result<void> check_one_reg(const char* call, std::uint64_t id, std::size_t bytes) {
    const std::size_t size = std::size_t{1} << ((id & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT);
    if (bytes != size) {
        return fail({EINVAL, std::string(call) + "(" + hex(id) + ")",
                     "the value has " + std::to_string(bytes) + " bytes, the register " +
                         std::to_string(size),
                     "give as many bytes as the id says"});
    }
    return {};
}

}  // namespace

Result<void> Vcpu::clear_signal_mask() const {
    return command({abi::set_signal_mask, "KVM_SET_SIGNAL_MASK"});
}

Result<kvm_mp_state> Vcpu::get_mp_state() const {
    return out<kvm_mp_state>({KVM_GET_MP_STATE, "KVM_GET_MP_STATE"});
}

Result<void> Vcpu::set_mp_state(const kvm_mp_state& state) const {
    return set<kvm_mp_state>({KVM_SET_MP_STATE, "KVM_SET_MP_STATE"}, state);
}

Result<kvm_vcpu_events> Vcpu::get_vcpu_events() const {
    return out<kvm_vcpu_events>({KVM_GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS"});
}

Result<void> Vcpu::set_vcpu_events(const kvm_vcpu_events& events) const {
    return set<kvm_vcpu_events>({KVM_SET_VCPU_EVENTS, "KVM_SET_VCPU_EVENTS"}, events);
}

Result<void> Vcpu::set_guest_debug(const kvm_guest_debug& debug) const {
    return set<kvm_guest_debug>({KVM_SET_GUEST_DEBUG, "KVM_SET_GUEST_DEBUG"}, debug);
}

Result<std::vector<std::uint64_t>> Vcpu::get_reg_list() const {
    return out_array<std::uint64_t, abi::RegListHeader>({abi::get_reg_list, "KVM_GET_REG_LIST"},
                                                        512);
}

Result<Fd> Vcpu::get_stats_fd() const {
    return value({KVM_GET_STATS_FD, "KVM_GET_STATS_FD"}).map(Fd::own);
}

Result<void> Vcpu::set_signal_mask(const sigset_t& blocked) const {
    // glibc's set begins with the kernel's and has room for more.
    const auto mask = std::as_bytes(std::span(&blocked, 1)).first(kernel_sigset_size);
    return in_array<abi::SignalMaskHeader>({abi::set_signal_mask, "KVM_SET_SIGNAL_MASK"},
                                           {kernel_sigset_size}, mask)
        .map([](int) {});
}

Result<void> Vcpu::get_one_reg(std::uint64_t id, std::span<std::byte> value) const {
    return check_one_reg("KVM_GET_ONE_REG", id, value.size()).and_then([&] {
        // SAFETY: the kernel writes as many bytes as the id says, which is what `value` has.
        return set<kvm_one_reg>({KVM_GET_ONE_REG, "KVM_GET_ONE_REG"},
                                {id, reinterpret_cast<std::uint64_t>(value.data())});
    });
}

Result<void> Vcpu::set_one_reg(std::uint64_t id, std::span<const std::byte> value) const {
    return check_one_reg("KVM_SET_ONE_REG", id, value.size()).and_then([&] {
        // SAFETY: the kernel reads as many bytes as the id says, which is what `value` has.
        return set<kvm_one_reg>({KVM_SET_ONE_REG, "KVM_SET_ONE_REG"},
                                {id, reinterpret_cast<std::uint64_t>(value.data())});
    });
}

#if defined(__x86_64__)

Result<kvm_regs> Vcpu::get_regs() const {
    return out<kvm_regs>({KVM_GET_REGS, "KVM_GET_REGS"});
}

Result<void> Vcpu::set_regs(const kvm_regs& regs) const {
    return set<kvm_regs>({KVM_SET_REGS, "KVM_SET_REGS"}, regs);
}

Result<kvm_sregs> Vcpu::get_sregs() const {
    return out<kvm_sregs>({KVM_GET_SREGS, "KVM_GET_SREGS"});
}

Result<void> Vcpu::set_sregs(const kvm_sregs& sregs) const {
    return set<kvm_sregs>({KVM_SET_SREGS, "KVM_SET_SREGS"}, sregs);
}

Result<kvm_sregs2> Vcpu::get_sregs2() const {
    return out<kvm_sregs2>({KVM_GET_SREGS2, "KVM_GET_SREGS2"});
}

Result<void> Vcpu::set_sregs2(const kvm_sregs2& sregs) const {
    return set<kvm_sregs2>({KVM_SET_SREGS2, "KVM_SET_SREGS2"}, sregs);
}

Result<kvm_fpu> Vcpu::get_fpu() const {
    return out<kvm_fpu>({KVM_GET_FPU, "KVM_GET_FPU"});
}

Result<void> Vcpu::set_fpu(const kvm_fpu& fpu) const {
    return set<kvm_fpu>({KVM_SET_FPU, "KVM_SET_FPU"}, fpu);
}

Result<kvm_xcrs> Vcpu::get_xcrs() const {
    return out<kvm_xcrs>({KVM_GET_XCRS, "KVM_GET_XCRS"});
}

Result<void> Vcpu::set_xcrs(const kvm_xcrs& xcrs) const {
    return set<kvm_xcrs>({KVM_SET_XCRS, "KVM_SET_XCRS"}, xcrs);
}

Result<void> Vcpu::set_cpuid2(std::span<const kvm_cpuid_entry2> entries) const {
    return in_array<abi::CpuidHeader>({abi::set_cpuid2, "KVM_SET_CPUID2"},
                                      {static_cast<std::uint32_t>(entries.size()), 0}, entries)
        .map([](int) {});
}

Result<kvm_lapic_state> Vcpu::get_lapic() const {
    return out<kvm_lapic_state>({KVM_GET_LAPIC, "KVM_GET_LAPIC"});
}

Result<void> Vcpu::set_lapic(const kvm_lapic_state& lapic) const {
    return set<kvm_lapic_state>({KVM_SET_LAPIC, "KVM_SET_LAPIC"}, lapic);
}

Result<kvm_debugregs> Vcpu::get_debugregs() const {
    return out<kvm_debugregs>({KVM_GET_DEBUGREGS, "KVM_GET_DEBUGREGS"});
}

Result<void> Vcpu::set_debugregs(const kvm_debugregs& debugregs) const {
    return set<kvm_debugregs>({KVM_SET_DEBUGREGS, "KVM_SET_DEBUGREGS"}, debugregs);
}

Result<std::uint32_t> Vcpu::get_tsc_khz() const {
    return value({KVM_GET_TSC_KHZ, "KVM_GET_TSC_KHZ"}).map([](int khz) {
        return static_cast<std::uint32_t>(khz);
    });
}

Result<void> Vcpu::set_tsc_khz(std::uint32_t khz) const {
    return command({KVM_SET_TSC_KHZ, "KVM_SET_TSC_KHZ"}, khz);
}

Result<void> Vcpu::kvmclock_ctrl() const {
    return command({KVM_KVMCLOCK_CTRL, "KVM_KVMCLOCK_CTRL"});
}

Result<void> Vcpu::interrupt(std::uint32_t vector) const {
    return set<kvm_interrupt>({KVM_INTERRUPT, "KVM_INTERRUPT"}, {vector});
}

Result<void> Vcpu::nmi() const {
    return command({KVM_NMI, "KVM_NMI"});
}

Result<void> Vcpu::smi() const {
    return command({KVM_SMI, "KVM_SMI"});
}

Result<kvm_translation> Vcpu::translate(std::uint64_t linear_address) const {
    kvm_translation translation{};
    translation.linear_address = linear_address;
    return inout<kvm_translation>({KVM_TRANSLATE, "KVM_TRANSLATE"}, translation);
}

namespace {

// Where the kernel has not said that the area is larger.
constexpr std::size_t least_xsave_size = sizeof(abi::XsaveHeader);

}  // namespace

Result<std::vector<std::byte>> Vcpu::get_xsave() const {
    if (xsave_size_ == 0) {
        return out<abi::XsaveHeader>({abi::get_xsave, "KVM_GET_XSAVE"})
            .map([](const abi::XsaveHeader& area) {
                const auto bytes = std::as_bytes(std::span(area.region));
                return std::vector<std::byte>(bytes.begin(), bytes.end());
            });
    }
    std::vector<std::byte> area(std::max(xsave_size_, least_xsave_size));
    constexpr RequestOf<abi::XsaveHeader> request{abi::get_xsave2, "KVM_GET_XSAVE2"};
    // SAFETY: the kernel writes as many bytes as KVM_CAP_XSAVE2 says, which is xsave_size_.
    return detail::ioctl(fd_, request, area.data()).map([&](int) { return std::move(area); });
}

Result<void> Vcpu::set_xsave(std::span<const std::byte> area) const {
    const std::size_t size = std::max(xsave_size_, least_xsave_size);
    if (area.size() < size) {
        return fail({EINVAL, "KVM_SET_XSAVE",
                     "the area has " + std::to_string(area.size()) + " bytes, the vCPU's has " +
                         std::to_string(size),
                     "give what get_xsave gave on a host with the same features"});
    }
    std::vector<std::byte> copy(area.begin(), area.end());
    constexpr RequestOf<abi::XsaveHeader> request{abi::set_xsave, "KVM_SET_XSAVE"};
    // SAFETY: the kernel reads as many bytes as KVM_CAP_XSAVE2 says: at most `size`.
    return detail::ioctl(fd_, request, copy.data()).map([](int) {});
}

Result<std::vector<kvm_msr_entry>> Vcpu::get_msrs(std::span<const std::uint32_t> indices) const {
    const std::vector<kvm_msr_entry> entries = msr_entries(indices);
    return inout_array<abi::MsrsHeader, kvm_msr_entry>(
        {abi::get_msrs, "KVM_GET_MSRS"}, {static_cast<std::uint32_t>(entries.size()), 0}, entries);
}

Result<void> Vcpu::set_msrs(std::span<const kvm_msr_entry> msrs) const {
    Result<int> done = in_array<abi::MsrsHeader>(
        {abi::set_msrs, "KVM_SET_MSRS"}, {static_cast<std::uint32_t>(msrs.size()), 0}, msrs);
    if (!done) {
        return fail(std::move(done.error()));
    }
    const auto set = static_cast<std::size_t>(*done);
    if (set < msrs.size()) {
        return fail({EINVAL, "KVM_SET_MSRS",
                     "set " + std::to_string(set) + " of " + std::to_string(msrs.size()) +
                         " and stopped at MSR " + hex(msrs[set].index) + ", value " +
                         hex(msrs[set].data),
                     "leave that MSR out, or give the vCPU a CPUID that has it"});
    }
    return {};
}

Result<std::vector<kvm_cpuid_entry2>> Vcpu::get_cpuid2() const {
    // Before Linux 6.5 the kernel does not say how many entries it has written (it sets the count
    // only where there was too little room), so those that it has left alone are told by a leaf
    // that no CPU has.
    constexpr std::uint32_t no_leaf = ~std::uint32_t{0};
    std::vector<kvm_cpuid_entry2> room(abi::max_cpuid_entries);
    for (kvm_cpuid_entry2& entry : room) {
        entry.function = no_leaf;
    }
    FlexArray<abi::CpuidHeader, kvm_cpuid_entry2> array({abi::max_cpuid_entries, 0}, room);
    constexpr RequestOf<abi::CpuidHeader> request{abi::get_cpuid2, "KVM_GET_CPUID2"};
    // SAFETY: the block has the header and as many entries behind it as the header says.
    return detail::ioctl(fd_, request, array.data()).map([&](int) {
        std::vector<kvm_cpuid_entry2> entries = array.elements(array.header().count);
        while (!entries.empty() && entries.back().function == no_leaf) {
            entries.pop_back();
        }
        return entries;
    });
}

Result<std::vector<std::byte>> Vcpu::get_nested_state() const {
    constexpr RequestOf<abi::NestedStateHeader> request{abi::get_nested_state,
                                                        "KVM_GET_NESTED_STATE"};
    abi::NestedStateHeader header{};
    header.size = sizeof header;
    std::vector<std::byte> state(header.size);
    std::memcpy(state.data(), &header, sizeof header);
    // SAFETY: the kernel writes no more than the header's `size`, which is what `state` has.
    Result<int> done = detail::ioctl(fd_, request, state.data());
    std::memcpy(&header, state.data(), sizeof header);
    if (!done && done.error().code == E2BIG && header.size > state.size()) {
        state.resize(header.size);
        // SAFETY: as above; the kernel has put the size it needs in the header.
        done = detail::ioctl(fd_, request, state.data());
        std::memcpy(&header, state.data(), sizeof header);
    }
    return done.map([&](int) {
        state.resize(std::min<std::size_t>(header.size, state.size()));
        return std::move(state);
    });
}

Result<void> Vcpu::set_nested_state(std::span<const std::byte> state) const {
    abi::NestedStateHeader header{};
    if (state.size() >= sizeof header) {
        std::memcpy(&header, state.data(), sizeof header);
    }
    if (header.size < sizeof header || header.size > state.size()) {
        return fail({EINVAL, "KVM_SET_NESTED_STATE",
                     "the state has " + std::to_string(state.size()) + " bytes, its header says " +
                         std::to_string(header.size),
                     "give what get_nested_state gave"});
    }
    std::vector<std::byte> copy(state.begin(), state.end());
    constexpr RequestOf<abi::NestedStateHeader> request{abi::set_nested_state,
                                                        "KVM_SET_NESTED_STATE"};
    // SAFETY: the kernel reads as many bytes as the header's `size` says, at most what `copy` has.
    return detail::ioctl(fd_, request, copy.data()).map([](int) {});
}

#endif

}  // namespace dirtyring::kvm
