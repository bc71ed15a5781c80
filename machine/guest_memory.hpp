// SPDX-License-Identifier: MIT
//
// Guest memory as a mapping of this process: anonymous, without reservation, so that only what is
// touched costs; or memory of somebody else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>

#include "dirtyring/error.hpp"

namespace dirtyring::machine {

class GuestMemory {
  public:
    /// Maps `bytes`, all zero, at an address that is a multiple of 2 MiB, so that KVM can use huge
    /// host pages for it. Errors: ENOMEM (mmap), EINVAL (huge pages on a kernel without them).
    [[nodiscard]] static Result<GuestMemory> map(std::uint64_t bytes, bool huge_pages);
    /// Somebody else's bytes, which outlive it.
    [[nodiscard]] static GuestMemory borrow(std::span<std::byte> bytes) noexcept {
        GuestMemory memory;
        memory.bytes_ = bytes;
        return memory;
    }

    GuestMemory(GuestMemory&& other) noexcept
        : mapping_(std::exchange(other.mapping_, nullptr)),
          mapped_(std::exchange(other.mapped_, 0)),
          bytes_(std::exchange(other.bytes_, {})) {}
    GuestMemory& operator=(GuestMemory&&) = delete;
    GuestMemory(const GuestMemory&) = delete;
    GuestMemory& operator=(const GuestMemory&) = delete;
    ~GuestMemory();

    /// Byte a is guest-virtual address a.
    [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }

    /// Copies a value to guest-virtual `address`, which the caller knows to lie inside.
    template <typename T>
    void store(std::uint64_t address, const T& value) const noexcept {
        static_assert(std::is_trivially_copyable_v<T>);
        std::memcpy(bytes_.subspan(address, sizeof value).data(), &value, sizeof value);
    }
    /// Copies a value from guest-virtual `address`, which the caller knows to lie inside.
    template <typename T>
    [[nodiscard]] T load(std::uint64_t address) const noexcept {
        static_assert(std::is_trivially_copyable_v<T>);
        T value;
        std::memcpy(&value, bytes_.subspan(address, sizeof value).data(), sizeof value);
        return value;
    }

  private:
    GuestMemory() noexcept = default;

    void* mapping_ = nullptr;  // none: borrowed
    std::size_t mapped_ = 0;
    std::span<std::byte> bytes_;
};

}  // namespace dirtyring::machine
