// SPDX-License-Identifier: MIT
#include "stop_signals.hpp"

#include <pthread.h>

#include <utility>

namespace dirtyring::cli {

namespace {

// A changed size of the terminal, and what makes sigwait return in the end.
constexpr int wake_signal = SIGWINCH;

}  // namespace

StopSignals::StopSignals(SignalHandlers handlers) : handlers_(std::move(handlers)) {
    ::signal(SIGPIPE, SIG_IGN);
    ::sigemptyset(&handled_);
    ::sigaddset(&handled_, wake_signal);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGTSTP}) {
        struct sigaction action{};
        ::sigaction(signal, nullptr, &action);
        if (action.sa_handler != SIG_IGN) {
            ::sigaddset(&handled_, signal);
        }
    }
    ::pthread_sigmask(SIG_BLOCK, &handled_, &before_);
    thread_ = std::thread([this] { loop(); });
}

StopSignals::~StopSignals() {
    done_.store(true, std::memory_order_relaxed);
    ::pthread_kill(thread_.native_handle(), wake_signal);
    thread_.join();
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void StopSignals::loop() {
    for (;;) {
        int signal = 0;
        ::sigwait(&handled_, &signal);
        if (done_.load(std::memory_order_relaxed)) {
            return;
        }
        switch (signal) {
            case wake_signal:
                handlers_.resized();
                break;
            case SIGTSTP:
                // All threads of the process stop with it and go on with SIGCONT. raise, not kill:
                // sent to this thread it stops before the call returns; sent to the process it may
                // be another thread that takes it, and this one would run on for a moment.
                handlers_.suspended([] { ::raise(SIGSTOP); });
                break;
            default:
                handlers_.stop(signal);
        }
    }
}

}  // namespace dirtyring::cli
