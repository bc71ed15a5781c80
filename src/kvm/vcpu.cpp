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
