// SPDX-License-Identifier: MIT
#include "kick_signal.hpp"

#include <csignal>
#include <initializer_list>

namespace dirtyring::machine {

namespace {

constexpr int kick_signal = SIGUSR1;

bool install() noexcept {
    struct sigaction action{};
    action.sa_handler = [](int) {};
    // KVM_RUN comes back in spite of SA_RESTART; system calls that a callback makes are started
    // again.
    action.sa_flags = SA_RESTART;
    ::sigemptyset(&action.sa_mask);
    // It only fails for a signal that does not exist.
    return ::sigaction(kick_signal, &action, nullptr) == 0;
}

}  // namespace

void install_kick_handler() noexcept {
    [[maybe_unused]] static const bool installed = install();
}

void accept_only_kicks() noexcept {
    sigset_t blocked;
    ::sigfillset(&blocked);
    // Those that the thread's own instructions cause stay deliverable, so that debuggers and
    // sanitizers see them.
    for (const int signal : {kick_signal, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT}) {
        ::sigdelset(&blocked, signal);
    }
    ::pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
}

void send_kick(pthread_t thread) noexcept {
    ::pthread_kill(thread, kick_signal);
}

}  // namespace dirtyring::machine
