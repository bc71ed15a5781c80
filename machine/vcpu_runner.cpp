// SPDX-License-Identifier: MIT
#include "vcpu_runner.hpp"

#include <cstring>
#include <utility>
#include <variant>

#include "../guests/abi.hpp"
#include "fault.hpp"
#include "kick_signal.hpp"

namespace dirtyring::machine {

namespace {

void add(std::atomic<std::uint64_t>& counter, std::uint64_t amount) {
    counter.fetch_add(amount, std::memory_order_relaxed);
}

}  // namespace

void Shared::stop() {
    if (gate.stop() && callbacks.on_stop) {
        callbacks.on_stop();
    }
}

void Shared::end(std::uint32_t vcpu, End end) {
    if (!succeeded(end)) {
        stop();
    }
    gate.end(vcpu, std::move(end));
}

VcpuRunner::~VcpuRunner() {
    if (thread_) {
        ::pthread_join(*thread_, nullptr);
    }
}

Result<void> VcpuRunner::start() {
    pthread_t thread{};
    // std::thread would throw where this answers.
    const int code = ::pthread_create(
        &thread, nullptr,
        [](void* argument) -> void* {
            auto& self = *static_cast<VcpuRunner*>(argument);
            accept_only_kicks();
            End end = self.loop();
            self.shared_.end(self.index_, std::move(end));
            return nullptr;
        },
        this);
    if (code != 0) {
        return fail({code,
                     "start the thread of vCPU " + std::to_string(index_),
                     {},
                     "use fewer vCPUs or lift the host's limits (ulimit -u)"});
    }
    thread_ = thread;
    return {};
}

Counters VcpuRunner::counters() const noexcept {
    return {.rounds = rounds_.load(std::memory_order_relaxed),
            .page_writes = page_writes_.load(std::memory_order_relaxed),
            .ring_full_exits = ring_full_exits_.load(std::memory_order_relaxed),
            .exits = exits_.load(std::memory_order_relaxed)};
}

bool VcpuRunner::enter() {
    if (shared_.callbacks.before_enter) {
        shared_.callbacks.before_enter(index_);
    }
    return shared_.gate.enter(index_, run_);
}

End VcpuRunner::loop() {
    while (enter()) {
        Said said;
        const Result<kvm::Exit> exit = run_until_complete(said);
        shared_.gate.leave(index_);
        pass_on(said);
        if (said.status) {
            return Exited{*said.status};
        }
        if (!exit) {
            return Failed{exit.error()};
        }
        if (std::optional<End> end = handle(*exit)) {
            return std::move(*end);
        }
    }
    return Stopped{};
}

// The guest's `out` is only complete with the next KVM_RUN (api.rst 5, KVM_EXIT_IO). That is made
// here, with immediate_exit set so that it does not run the guest: whoever has paused the machine
// finds complete registers, and callbacks may take their time without holding up a pause. A string
// instruction comes out again for its next element, so this goes on until it is done.
Result<kvm::Exit> VcpuRunner::run_until_complete(Said& said) {
    // Only a string instruction gets there; it is passed on in pieces then, the vCPU being in the
    // midst of it.
    constexpr std::size_t max_said = 4096;
    Result<kvm::Exit> exit = run_.run();
    add(exits_, 1);
    while (exit && !said.status && note(*exit, said)) {
        if (said.console.size() + said.rounds.size() >= max_said) {
            return kvm::IntrExit{};
        }
        run_.request_exit();
        exit = run_.run();
    }
    return exit;
}

/// True if the exit was the guest's use of one of its ports.
bool VcpuRunner::note(const kvm::Exit& exit, Said& said) {
    const auto* io = std::get_if<kvm::IoExit>(&exit);
    if (io == nullptr || !io->out) {
        return false;
    }
    if (io->port == guest_abi::console_port && io->size == 1) {
        for (const std::byte byte : io->data) {
            said.console += std::to_integer<char>(byte);
        }
        return true;
    }
    if ((io->port != guest_abi::exit_port && io->port != guest_abi::round_port) || io->size != 4) {
        return false;
    }
    for (std::size_t at = 0; at + 4 <= io->data.size(); at += 4) {
        std::uint32_t value = 0;
        std::memcpy(&value, io->data.data() + at, sizeof value);
        if (io->port == guest_abi::round_port) {
            said.rounds.push_back(value);
        } else {
            said.status = value;
        }
    }
    return true;
}

void VcpuRunner::pass_on(const Said& said) {
    if (!said.console.empty()) {
        if (shared_.callbacks.on_console) {
            shared_.callbacks.on_console(said.console);
        } else {
            shared_.console.write(said.console);
        }
    }
    for (const std::uint32_t page_writes : said.rounds) {
        add(rounds_, 1);
        add(page_writes_, page_writes);
        if (shared_.callbacks.on_round) {
            shared_.callbacks.on_round(index_, page_writes);
        }
    }
}

std::optional<End> VcpuRunner::handle(const kvm::Exit& exit) {
    if (std::holds_alternative<kvm::IntrExit>(exit)) {
        return std::nullopt;
    }
    if (std::holds_alternative<kvm::RingFullExit>(exit)) {
        return ring_full();
    }
    return fault(exit);
}

std::optional<End> VcpuRunner::ring_full() {
    add(ring_full_exits_, 1);
    if (!shared_.callbacks.on_ring_full) {
        return Failed{{0, "run vCPU " + std::to_string(index_),
                       "its dirty ring is full and nobody makes room",
                       "give the machine an on_ring_full that harvests and resets"}};
    }
    if (Result<void> made_room = shared_.callbacks.on_ring_full(index_); !made_room) {
        return Failed{std::move(made_room.error())};
    }
    return std::nullopt;
}

Faulted VcpuRunner::fault(const kvm::Exit& exit) const {
    const FaultContext context{vcpu_, index_, shared_.memory};
    const auto* io = std::get_if<kvm::IoExit>(&exit);
    if (io != nullptr && io->out && io->port == guest_abi::fault_port) {
        if (std::optional<std::string> report = exception_report(context)) {
            return {std::move(*report)};
        }
    }
    return {exit_report(context, describe_exit(exit))};
}

}  // namespace dirtyring::machine
