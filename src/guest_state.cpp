// SPDX-License-Identifier: MIT
#include "dirtyring/guest_state.hpp"

#if defined(__x86_64__)

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <iterator>
#include <span>
#include <utility>

#include "dirtyring/kvm/system.hpp"

namespace dirtyring {

namespace {

// What counts time: IA32_TIME_STAMP_COUNTER, IA32_TSC_DEADLINE (Intel SDM volume 4, table 2-2), and
// Hyper-V's HV_X64_MSR_VP_RUNTIME and HV_X64_MSR_TIME_REF_COUNT (TLFS, appendix E).
constexpr std::uint32_t time_stamp_counter = 0x10;
constexpr std::array<std::uint32_t, 4> time_msrs = {time_stamp_counter, 0x6e0, 0x40000010,
                                                    0x40000020};

bool counts_time(std::uint32_t msr) {
    return std::ranges::find(time_msrs, msr) != time_msrs.end();
}

// The structs are KVM's, which copies them as bytes; what it does not fill in was zero before.
template <typename T>
bool same(const T& a, const T& b) {
    // NOLINTNEXTLINE(bugprone-suspicious-memory-comparison)
    return std::memcmp(&a, &b, sizeof(T)) == 0;
}

bool same(const std::vector<std::byte>& a, const std::vector<std::byte>& b) {
    return std::ranges::equal(a, b);
}

template <typename T>
bool same(const std::optional<T>& a, const std::optional<T>& b) {
    return a.has_value() == b.has_value() && (!a || same(*a, *b));
}

// What a VM does not have is EINVAL or ENXIO to ask for.
template <typename T>
Result<void> keep_if_there(Result<T> got, std::optional<T>& to) {
    if (got) {
        to = *got;
    } else if (got.error().code != EINVAL && got.error().code != ENXIO) {
        return fail(std::move(got.error()));
    }
    return {};
}

template <typename T>
Result<void> keep(Result<T> got, T& to) {
    if (!got) {
        return fail(std::move(got.error()));
    }
    to = std::move(*got);
    return {};
}

/// Those of the model-specific registers that can be read, and written with what they hold.
Result<std::vector<std::uint32_t>> usable_msrs(const kvm::Vcpu& vcpu) {
    Result<std::vector<std::uint32_t>> all = kvm::System::open().and_then(
        [](const kvm::System& system) { return system.get_msr_index_list(); });
    if (!all) {
        return all;
    }
    std::vector<std::uint32_t> usable;
    for (const std::uint32_t index : *all) {
        const Result<std::vector<kvm_msr_entry>> value = vcpu.get_msrs({&index, 1});
        if (!value) {
            return fail(value.error());
        }
        if (!value->empty() && (index == time_stamp_counter || vcpu.set_msrs(*value))) {
            usable.push_back(index);
        }
    }
    return usable;
}

constexpr std::size_t most_msrs = 256;  // of one call

Result<std::vector<kvm_msr_entry>> read_msrs(const kvm::Vcpu& vcpu,
                                             std::span<const std::uint32_t> indices) {
    if (indices.size() <= most_msrs) {
        return vcpu.get_msrs(indices);
    }
    std::vector<kvm_msr_entry> all;
    while (!indices.empty()) {
        const std::size_t count = std::min(indices.size(), most_msrs);
        Result<std::vector<kvm_msr_entry>> some = vcpu.get_msrs(indices.first(count));
        if (!some) {
            return some;
        }
        all.insert(all.end(), some->begin(), some->end());
        indices = indices.subspan(count);
    }
    return all;
}

Result<void> write_msrs(const kvm::Vcpu& vcpu, std::span<const kvm_msr_entry> msrs) {
    while (!msrs.empty()) {
        const std::size_t count = std::min(msrs.size(), most_msrs);
        if (Result<void> set = vcpu.set_msrs(msrs.first(count)); !set) {
            return set;
        }
        msrs = msrs.subspan(count);
    }
    return {};
}

std::string hex(std::uint32_t number) {
    char text[8];
    char* const end = std::to_chars(text, text + sizeof text, number, 16).ptr;
    return "0x" + std::string(text, end);
}

void add_name(std::string& names, bool same, const std::string& name) {
    if (!same) {
        names += names.empty() ? name : ", " + name;
    }
}

}  // namespace

Result<VcpuState> VcpuState::take(const kvm::Vcpu& vcpu, const StateOptions& options) {
    VcpuState state;
    state.options_ = options;
    std::optional<std::vector<std::byte>> nested;
    std::vector<std::uint32_t> msrs;
    const Result<void> done =
        keep(vcpu.get_regs(), state.regs_)
            .and_then([&] { return keep(vcpu.get_sregs(), state.sregs_); })
            .and_then([&] { return keep(vcpu.get_xcrs(), state.xcrs_); })
            .and_then([&] { return keep(vcpu.get_vcpu_events(), state.events_); })
            .and_then([&] { return keep(vcpu.get_mp_state(), state.mp_state_); })
            .and_then([&] { return keep(vcpu.get_debugregs(), state.debugregs_); })
            .and_then([&] { return keep_if_there(vcpu.get_lapic(), state.lapic_); })
            .and_then([&] { return keep(vcpu.get_xsave(), state.xsave_); })
            .and_then([&] { return keep_if_there(vcpu.get_nested_state(), nested); })
            .and_then([&] { return keep(usable_msrs(vcpu), msrs); })
            .and_then([&] { return keep(read_msrs(vcpu, msrs), state.msrs_); });
    if (!done) {
        return fail(done.error());
    }
    state.nested_ = std::move(nested).value_or(std::vector<std::byte>());
    std::ranges::copy_if(
        state.msrs_, std::back_inserter(state.put_back_),
        [&](const kvm_msr_entry& msr) { return options.time || !counts_time(msr.index); });
    return state;
}

// Written unread: that is one call, and what is as it was already costs nothing more. Where it
// does, it is read first.
Result<void> VcpuState::restore_system(const kvm::Vcpu& vcpu) const {
    const auto put_back = [&](auto get, auto set, const auto& value) -> Result<void> {
        const auto now = (vcpu.*get)();
        if (!now) {
            return fail(now.error());
        }
        return same(*now, value) ? Result<void>() : (vcpu.*set)(value);
    };
    using kvm::Vcpu;
    Result<void> done =
        write_msrs(vcpu, put_back_).and_then([&] { return vcpu.set_xcrs(xcrs_); }).and_then([&] {
            return vcpu.set_debugregs(debugregs_);
        });
    if (done && lapic_) {
        // Without it a vCPU has no run state that the guest could change: HLT is an exit.
        done = put_back(&Vcpu::get_lapic, &Vcpu::set_lapic, *lapic_).and_then([&] {
            return put_back(&Vcpu::get_mp_state, &Vcpu::set_mp_state, mp_state_);
        });
    }
    if (done && !nested_.empty()) {
        done = put_back(&Vcpu::get_nested_state, &Vcpu::set_nested_state, nested_);
    }
    return done;
}

Result<void> VcpuState::restore(const kvm::Vcpu& vcpu) const {
    // Segments and control registers decide what the others may hold. Events after the general
    // registers: writing those drops a pending exception.
    return vcpu.set_sregs(sregs_)
        .and_then([&] { return options_.system ? restore_system(vcpu) : Result<void>(); })
        .and_then([&] { return vcpu.set_xsave(xsave_); })
        .and_then([&] { return vcpu.set_regs(regs_); })
        .and_then([&] { return vcpu.set_vcpu_events(events_); });
}

Result<void> VcpuState::restore(const kvm::Vcpu& vcpu, kvm_run& run) const {
    run.s.regs.regs = regs_;
    run.s.regs.sregs = sregs_;
    run.s.regs.events = events_;
    run.kvm_dirty_regs |= KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
    Result<void> done = options_.system ? restore_system(vcpu) : Result<void>();
    return done.and_then([&] { return vcpu.set_xsave(xsave_); });
}

std::string VcpuState::difference(const VcpuState& other) const {
    std::string names;
    add_name(names, same(regs_, other.regs_), "regs");
    add_name(names, same(sregs_, other.sregs_), "sregs");
    add_name(names, same(xcrs_, other.xcrs_), "xcrs");
    add_name(names, same(events_, other.events_), "vcpu_events");
    add_name(names, same(mp_state_, other.mp_state_), "mp_state");
    add_name(names, same(debugregs_, other.debugregs_), "debugregs");
    add_name(names, same(lapic_, other.lapic_), "lapic");
    add_name(names, same(xsave_, other.xsave_), "xsave");
    add_name(names, same(nested_, other.nested_), "nested_state");
    for (const kvm_msr_entry& msr : msrs_) {
        const auto found = std::ranges::find(other.msrs_, msr.index, &kvm_msr_entry::index);
        const bool as_was = found != other.msrs_.end() && found->data == msr.data;
        add_name(names, counts_time(msr.index) || as_was, "msr " + hex(msr.index));
    }
    return names;
}

Result<VmState> VmState::take(const kvm::Vm& vm, const StateOptions& options) {
    VmState state;
    for (const std::uint32_t id :
         {std::uint32_t{KVM_IRQCHIP_PIC_MASTER}, std::uint32_t{KVM_IRQCHIP_PIC_SLAVE},
          std::uint32_t{KVM_IRQCHIP_IOAPIC}}) {
        std::optional<kvm_irqchip> chip;
        if (Result<void> done = keep_if_there(vm.get_irqchip(id), chip); !done) {
            return fail(std::move(done.error()));
        }
        if (chip) {
            state.chips_.push_back(*chip);
        }
    }
    if (Result<void> done = keep_if_there(vm.get_pit2(), state.pit_); !done) {
        return fail(std::move(done.error()));
    }
    if (options.time) {
        Result<kvm_clock_data> clock = vm.get_clock();
        if (!clock) {
            return fail(std::move(clock.error()));
        }
        clock->flags = 0;  // those it is read with are not to be written
        state.clock_ = *clock;
    }
    return state;
}

Result<void> VmState::restore(const kvm::Vm& vm) const {
    for (const kvm_irqchip& chip : chips_) {
        const Result<kvm_irqchip> now = vm.get_irqchip(chip.chip_id);
        if (!now) {
            return fail(now.error());
        }
        if (Result<void> set = same(*now, chip) ? Result<void>() : vm.set_irqchip(chip); !set) {
            return set;
        }
    }
    if (Result<void> set = pit_ ? vm.set_pit2(*pit_) : Result<void>(); !set) {
        return set;
    }
    return clock_ ? vm.set_clock(*clock_) : Result<void>();
}

std::string VmState::difference(const VmState& other) const {
    std::string names;
    const bool chips =
        std::ranges::equal(chips_, other.chips_,
                           [](const kvm_irqchip& a, const kvm_irqchip& b) { return same(a, b); });
    add_name(names, chips, "irqchip");
    add_name(names, pit_.has_value() == other.pit_.has_value(), "pit");
    return names;
}

}  // namespace dirtyring

#endif
