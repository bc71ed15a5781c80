// SPDX-License-Identifier: MIT
#include "round_machine.hpp"

#include <algorithm>
#include <utility>
#include <variant>

#include "guests/abi.hpp"

namespace dirtyring::machine {

Result<RoundMachine> RoundMachine::create(const Config& config, const Program& program) {
    Result<std::unique_ptr<Machine>> machine = Machine::create(config, program, {});
    if (!machine) {
        return fail(std::move(machine.error()));
    }
    Result<kvm::Run> run = kvm::Run::map((*machine)->vcpu(0));
    if (!run) {
        return fail(std::move(run.error()));
    }
    return RoundMachine(std::move(*machine), std::move(*run));
}

Result<void> RoundMachine::run_round() {
    for (;;) {
        const Result<kvm::Exit> exit = run_.run();
        if (!exit) {
            return fail(exit.error());
        }
        if (std::holds_alternative<kvm::IntrExit>(*exit)) {
            continue;
        }
        const auto* const io = std::get_if<kvm::IoExit>(&*exit);
        if (io != nullptr && io->port == guest_abi::round_port) {
            return {};
        }
        if (io == nullptr || io->port != guest_abi::console_port) {
            std::ranges::replace(said_, '\n', ' ');
            return fail({0,
                         "run a round of the guest",
                         io != nullptr && io->port == guest_abi::exit_port
                             ? "it ended; it said: " + said_
                             : "exit reason " + std::to_string(run_.raw().exit_reason),
                         {}});
        }
        for (const std::byte byte : io->data) {
            said_ += std::to_integer<char>(byte);
        }
    }
}

Result<void> RoundMachine::finish_exit() {
    run_.request_exit();
    const Result<kvm::Exit> exit = run_.run();
    run_.clear_exit_request();
    return exit.map([](const kvm::Exit&) {});
}

}  // namespace dirtyring::machine
