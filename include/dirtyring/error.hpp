// SPDX-License-Identifier: MIT
//
// Errors are values: every call that can fail returns Result<T>. Nothing in this library throws,
// aborts or prints.
#pragma once

#include <string>
#include <tl/expected.hpp>

namespace dirtyring {

/// Why a call failed, in three parts that read as one sentence.
struct Error {
    /// The errno value of a failed system call; 0 where a rule was broken before the kernel was
    /// asked.
    int code = 0;
    /// What was asked, with what: "KVM_ENABLE_CAP(KVM_CAP_DIRTY_LOG_RING_ACQ_REL, 4096 bytes)".
    std::string operation;
    /// What is wrong with it. Empty where errno says it all.
    std::string cause;
    /// What to do about it. Empty where nothing is known to help.
    std::string remedy;

    /// "operation: cause; remedy", with the errno's own text where there is one.
    [[nodiscard]] std::string message() const;
};

/// A value, or the Error that kept it from being made.
template <typename T>
using Result = tl::expected<T, Error>;

/// `return fail({...});` in a function that returns any Result<T>.
[[nodiscard]] inline tl::unexpected<Error> fail(Error error) {
    return tl::unexpected<Error>(std::move(error));
}

}  // namespace dirtyring
