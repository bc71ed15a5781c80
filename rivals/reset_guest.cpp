// SPDX-License-Identifier: MIT
#include "reset_guest.hpp"

#include <array>
#include <cstring>

#include "dirtyring/memory.hpp"
#include "guests/abi.hpp"
#include "machine/layout.hpp"
#include "machine/resetting.hpp"

namespace dirtyring::bench {

namespace {

/// The VMM's part and the program, with room to spare.
constexpr std::uint64_t below_heap = 2 * guest_abi::reserved;

bool is_zero(const std::byte* page) {
    static constexpr std::array<std::byte, page_size> zeroes{};
    return std::memcmp(page, zeroes.data(), page_size) == 0;
}

}  // namespace

guest::ReplayPlan replay_plan(std::uint64_t memory, std::uint64_t lifetime) {
    return {(memory - below_heap) / page_size, lifetime};
}

ResetGuest::ResetGuest(machine::RoundMachine machine, const ResetCase& what)
    : machine_(std::move(machine)) {
    if (what.lifetime) {
        plan_ = replay_plan(what.memory, *what.lifetime);
    }
    guest_abi::Info info;
    std::memcpy(&info, bytes().data() + machine::layout::info, sizeof info);
    heap_ = info.heap_base;
}

Result<machine::RoundMachine> ResetGuest::make(machine::Config&& config, const ResetCase& what) {
    config.memory = what.memory;
    config.params = what.params;
    if (what.lifetime) {
        config.params = {{"working_set", std::to_string(what.memory - below_heap)},
                         {"lifetime", std::to_string(*what.lifetime)}};
    }
    return machine::RoundMachine::create(config, what.guest);
}

Result<ResetGuest> ResetGuest::create(machine::Config config, const ResetCase& what) {
    const bool log_dirty = std::exchange(config.log_dirty, false);
    Result<machine::RoundMachine> machine = make(std::move(config), what);
    if (!machine) {
        return fail(std::move(machine.error()));
    }
    ResetGuest guest(std::move(*machine), what);
    const Result<void> begun =
        guest.warm_up().and_then([&] { return guest.machine_.finish_exit(); }).and_then([&] {
            return log_dirty ? guest.log_dirty() : Result<void>();
        });
    return begun.map([&] { return std::move(guest); });
}

/// Replay's first round, in which all writes are of the same age, is to every spot: later ones must
/// not wait for memory that nobody has touched yet.
Result<void> ResetGuest::warm_up() {
    write(plan_ ? plan_->spots() : 0);
    for (std::uint64_t rounds = 0; rounds < machine::warm_up_rounds; ++rounds) {
        if (Result<void> ran = run(); !ran) {
            return ran;
        }
        write(1);
    }
    return {};
}

/// Only now: what the warm-up writes would not fit into a ring.
Result<void> ResetGuest::log_dirty() {
    for (const MemorySlot& slot : machine().memory().slots()) {
        const Result<void> logged =
            machine().vm().set_user_memory_region(slot.region(KVM_MEM_LOG_DIRTY_PAGES));
        if (!logged) {
            return logged;
        }
    }
    return {};
}

Result<ResetGuest> ResetGuest::clone(machine::Config config, const ResetCase& what,
                                     std::span<std::byte> memory) {
    config.filled = memory;
    return make(std::move(config), what).map([&](machine::RoundMachine&& machine) {
        return ResetGuest(std::move(machine), what);
    });
}

Result<void> ResetGuest::run() {
    if (const std::optional<std::uint64_t> at = order()) {
        const guest::ReplayOrder told{.round = round_, .writes = pages_};
        std::memcpy(bytes().data() + *at, &told, sizeof told);
    }
    ++round_;
    return machine_.run_round();
}

void ResetGuest::add_written(std::uint64_t round, std::vector<std::uint64_t>& offsets) const {
    offsets.push_back(heap_);
    for (std::uint64_t number = 0; number < pages_; ++number) {
        offsets.push_back(heap_ + plan_->page(number, round) * page_size);
    }
}

std::optional<std::uint64_t> ResetGuest::order() const {
    return plan_ ? std::optional(heap_) : std::nullopt;
}

/// Calls use(offset) for each page that the guest can write, but for that of the order.
template <typename Use>
void ResetGuest::for_each_page(Use&& use) {
    const std::uint64_t end = plan_ ? heap_ : bytes().size();
    for (std::uint64_t offset = 0; offset < end; offset += page_size) {
        use(offset);
    }
    for (std::uint64_t spot = 0; plan_ && spot < plan_->spots(); ++spot) {
        use(heap_ + plan_->page_of(spot) * page_size);
    }
}

Result<void> ResetGuest::save() {
    Result<VcpuState> state = VcpuState::take(machine().vcpu(0), machine::ring_3_state);
    if (!state) {
        return fail(std::move(state.error()));
    }
    state_ = std::move(*state);
    Result<kvm::Mapping> copy = kvm::Mapping::anonymous(bytes().size(), "copy of guest memory");
    if (!copy) {
        return fail(std::move(copy.error()));
    }
    copy_ = std::move(*copy);
    for_each_page([&](std::uint64_t offset) {
        const std::byte* const page = bytes().data() + offset;
        if (!is_zero(page)) {
            std::memcpy(static_cast<std::byte*>(copy_.address()) + offset, page, page_size);
        }
    });
    return {};
}

std::vector<std::uint64_t> ResetGuest::changed() {
    std::vector<std::uint64_t> offsets;
    for_each_page([&](std::uint64_t offset) {
        if (std::memcmp(bytes().data() + offset, saved(offset), page_size) != 0) {
            offsets.push_back(offset);
        }
    });
    return offsets;
}

Result<void> ResetGuest::check() {
    if (const std::vector<std::uint64_t> pages = changed(); !pages.empty()) {
        return fail({0,
                     "reset a guest",
                     "memory at address " + std::to_string(pages.front()) + " and " +
                         std::to_string(pages.size() - 1) + " more pages were not restored",
                     {}});
    }
    return {};
}

}  // namespace dirtyring::bench
