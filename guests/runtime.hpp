// SPDX-License-Identifier: MIT
//
// What a guest program has instead of an operating system and a C library.
//
// A guest defines `program`. Every vCPU then does what follows, by itself and at once:
//
//   1. vCPU 0 checks the parameters, calls `plan` and checks that memory is large enough;
//   2. each vCPU calls `start`;
//   3. each vCPU calls `round` for round 1, 2 and so on, as often as Info::rounds says (0: without
//      end), tells the VMM after each, and waits for the others before the next;
//   4. vCPU 0 says that all went well, and every vCPU ends with status 0.
//
// Statuses: 0 success, 1 the guest found its own result wrong, 2 it was started wrongly (a
// parameter, too little memory). A vCPU that ends with a failure takes the others with it at their
// next wait.
//
// Global objects must be `constinit`: nothing runs constructors here (guest.ld refuses them).
#pragma once

#include <array>
#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "abi.hpp"

namespace dirtyring::guest {

inline constexpr std::uint32_t max_vcpus = 64;

/// One line of a guest's parameter table: a whole number, or one word of several.
struct Parameter {
    const char* name;
    const char* fallback;           ///< the value where none is given, as a user would write it
    const char* meaning;            ///< one line for the user
    std::uint64_t least = 0;        ///< smallest number allowed
    std::uint64_t most = 0;         ///< largest number allowed
    const char* choices = nullptr;  ///< "one|two|three": a word, not a number
};

struct Program {
    const char* name;
    std::span<const Parameter> parameters;
    /// Reads the parameters and plans the heap, but must not touch what `allocate` returns. May be
    /// null.
    void (*plan)() = nullptr;
    /// Fills the memory, each vCPU its share. May be null.
    void (*start)(std::uint32_t vcpu) = nullptr;
    /// One round, checked by the guest itself. Returns this vCPU's page writes in it: one for each
    /// record stored at a place of its own, and one for each page where a stream fills page after
    /// page.
    std::uint64_t (*round)(std::uint32_t vcpu, std::uint64_t round) = nullptr;
};

/// Defined by each guest.
// NOLINTNEXTLINE(bugprone-dynamic-static-initializers): the check does not see that it is constinit
extern constinit const Program program;

// Parameters; to be asked for in `plan` or later.

/// The value of a number of the table. K, M and G after the digits mean times 2^10, 2^20 and 2^30.
std::uint64_t number(const char* name);

/// The value of a word of the table, as its place in `choices`, from 0.
unsigned choice(const char* name);

/// How many vCPUs run this guest.
std::uint32_t vcpu_count();

/// The frequency of the TSC in kHz, 0 where the VMM does not know it.
std::uint32_t tsc_khz();

/// The number of the last round, 0 where there is none.
std::uint64_t last_round();

// Memory.

/// Plans `bytes` of heap, page-aligned; the first call returns Info::heap_base. Only in `plan`.
/// Whether all that was planned fits is checked when `plan` has returned, so that the message can
/// name the whole need. The memory is zero, as the VMM gives it.
void* allocate_bytes(std::uint64_t bytes);

/// `count` objects of a plain type on the heap, all zero.
template <class T>
    requires std::is_trivially_default_constructible_v<T>
T* allocate(std::uint64_t count) {
    std::uint64_t bytes = 0;
    if (__builtin_mul_overflow(count, std::uint64_t{sizeof(T)}, &bytes)) {
        bytes = UINT64_MAX;
    }
    // SAFETY: page-aligned memory of that size, used for nothing else. T needs no constructor.
    return static_cast<T*>(allocate_bytes(bytes));
}

// Console and end.

/// Holds the console while it lives, so that lines of several vCPUs do not mix; ends its line.
class Line {
  public:
    Line();
    ~Line();
    Line(const Line&) = delete;
    Line(Line&&) = delete;
    Line& operator=(const Line&) = delete;
    Line& operator=(Line&&) = delete;

    void put(const char* text);
    void put(std::uint64_t value);
};

/// Writes one line: the guest's name, a colon, and the parts (strings and unsigned integers).
template <class... Parts>
void say(const Parts&... parts) {
    Line line;
    line.put(program.name);
    line.put(": ");
    (line.put(parts), ...);
}

/// Ends this vCPU.
[[noreturn]] void leave(std::uint32_t status);

/// The guest's own result is wrong: says so and ends with status 1.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
    say(parts...);
    leave(1);
}

/// The guest was started wrongly: says so and ends with status 2.
template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
    say(parts...);
    leave(2);
}

// Several vCPUs.

/// To be called in every loop that waits for another vCPU: lets the core rest for a moment, and
/// ends this vCPU if another has failed.
void relax();

/// Returns when every vCPU has called it. What was stored before is seen after.
void barrier();

using Sums = std::array<std::uint64_t, 4>;

/// Adds up, over all vCPUs, what each gives, modulo 2^64; every vCPU gets the sums. It is also a
/// barrier.
Sums sum_over_vcpus(std::uint32_t vcpu, const Sums& mine);

struct Slice {
    std::uint64_t begin;
    std::uint64_t end;
};

/// This vCPU's share of 0 .. count - 1; the shares differ by at most one. `count` at most 2^57.
constexpr Slice slice(std::uint64_t count, std::uint32_t vcpu, std::uint32_t vcpus) {
    return {count * vcpu / vcpus, count * (vcpu + std::uint64_t{1}) / vcpus};
}

/// How many pages `bytes` fill.
constexpr std::uint64_t pages(std::uint64_t bytes) {
    return (bytes + guest_abi::page_size - 1) / guest_abi::page_size;
}

}  // namespace dirtyring::guest
