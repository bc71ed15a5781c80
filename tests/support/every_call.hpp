// SPDX-License-Identifier: MIT
//
// Every call of the library that ends in a system call on a descriptor. A new one is a new line in
// every_call.cpp, and is then tested with wrong descriptors and failing system calls.
#pragma once

#include <functional>
#include <optional>
#include <span>

#include "dirtyring/error.hpp"
#include "dirtyring/kvm/fd.hpp"

namespace dirtyring {

enum class DescriptorKind { system, vm, vcpu, device, stats };

struct LibraryCall {
    /// What its error begins with: the first system call that it makes.
    const char* operation;
    DescriptorKind kind;
    /// Makes the call on this descriptor, gives the error.
    std::function<std::optional<Error>(kvm::Fd)> make;
};

std::span<const LibraryCall> every_call();

}  // namespace dirtyring
