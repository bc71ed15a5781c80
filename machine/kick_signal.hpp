// SPDX-License-Identifier: MIT
//
// The signal that gets a vCPU's thread out of KVM_RUN: SIGUSR1, with a handler that does nothing.
#pragma once

#include <pthread.h>

namespace dirtyring::machine {

/// Installs the handler, once a process. Any thread.
void install_kick_handler() noexcept;
/// For a vCPU's thread, once: lets the kick through and blocks what is for the rest of the program.
void accept_only_kicks() noexcept;
/// Interrupts KVM_RUN on that thread, which must not have ended. Any thread.
void send_kick(pthread_t thread) noexcept;

}  // namespace dirtyring::machine
