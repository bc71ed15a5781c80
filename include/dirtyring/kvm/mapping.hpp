// SPDX-License-Identifier: MIT
//
// A shared mapping of a descriptor's memory, undone with the object.
#pragma once

#include <cstddef>
#include <utility>

#include "dirtyring/error.hpp"
#include "dirtyring/kvm/fd.hpp"

namespace dirtyring::kvm {

class Mapping {
  public:
    /// Maps `bytes` (a multiple of the page size) of `fd` at `offset`, readable and writable,
    /// MAP_SHARED. KVM answers for any size, so the caller must know that the object is that large:
    /// touching more raises SIGBUS. `what` names the mapping in the error. Errors: mmap's own
    /// errno.
    [[nodiscard]] static Result<Mapping> map(const Fd& fd, std::size_t bytes, long offset,
                                             const char* what);

    /// Zeroes that are this process's alone and take memory as they are written. Errors: ENOMEM.
    [[nodiscard]] static Result<Mapping> anonymous(std::size_t bytes, const char* what);

    /// The first bytes of a file or memfd, copy on write: what is stored is this mapping's alone.
    /// Errors: mmap's own.
    [[nodiscard]] static Result<Mapping> copy_on_write(const Fd& fd, std::size_t bytes,
                                                       const char* what);

    Mapping() noexcept = default;
    Mapping(Mapping&& other) noexcept
        : address_(std::exchange(other.address_, nullptr)),
          bytes_(std::exchange(other.bytes_, 0)) {}
    Mapping& operator=(Mapping&& other) noexcept {
        std::swap(address_, other.address_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    ~Mapping();

    [[nodiscard]] void* address() const noexcept { return address_; }
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

  private:
    void* address_ = nullptr;
    std::size_t bytes_ = 0;
};

}  // namespace dirtyring::kvm
