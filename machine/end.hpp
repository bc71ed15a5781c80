// SPDX-License-Identifier: MIT
//
// How a vCPU ended.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "dirtyring/error.hpp"

namespace dirtyring::machine {

/// The guest wrote this to its exit port: 0 is success.
struct Exited {
    std::uint32_t status;
};
/// The guest did what it cannot: an exception, a triple fault, an access to a port or an address
/// that nothing is behind.
struct Faulted {
    std::string
        report;  ///< one sentence on the first line, then the registers; ends with a newline
};
/// Machine::stop, or another vCPU's bad end.
struct Stopped {};
/// KVM or a callback gave this error.
struct Failed {
    Error error;
};

using End = std::variant<Exited, Faulted, Stopped, Failed>;

/// True for Exited with status 0.
[[nodiscard]] bool succeeded(const End& end) noexcept;
/// One sentence that says how vCPU `vcpu` ended; for Faulted the whole report. Any thread.
[[nodiscard]] std::string describe(std::uint32_t vcpu, const End& end);

}  // namespace dirtyring::machine
