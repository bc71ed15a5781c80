// SPDX-License-Identifier: MIT
#include "builtin_guests.hpp"

#include <array>

// The files lie in DIRTYRING_GUESTS, an option of the compiler that the build gives
// (CMakeLists.txt).
#define DIRTYRING_EMBED(name)                            \
    asm(".pushsection .rodata\n"                         \
        ".balign 16\n"                                   \
        "dirtyring_guest_" #name                         \
        ":\n"                                            \
        ".incbin \"" DIRTYRING_GUESTS "/" #name          \
        "\"\n"                                           \
        "dirtyring_guest_" #name                         \
        "_end:\n"                                        \
        ".byte 0\n"                                      \
        ".popsection\n");                                \
    extern "C" const std::byte dirtyring_guest_##name[]; \
    extern "C" const std::byte dirtyring_guest_##name##_end[];

DIRTYRING_EMBED(log_store)
DIRTYRING_EMBED(hash_table)
DIRTYRING_EMBED(merge_sort)
DIRTYRING_EMBED(spmv)
DIRTYRING_EMBED(writer)
DIRTYRING_EMBED(replay)

#define DIRTYRING_GUEST(name, about)                                                         \
    BuiltinGuest {                                                                           \
        #name, about,                                                                        \
            std::span<const std::byte>(dirtyring_guest_##name, dirtyring_guest_##name##_end) \
    }

namespace dirtyring::cli {

std::span<const BuiltinGuest> builtin_guests() noexcept {
    static const std::array guests = {
        DIRTYRING_GUEST(log_store, "a log-structured store that appends and compacts"),
        DIRTYRING_GUEST(hash_table, "a hash table under a Zipf load"),
        DIRTYRING_GUEST(merge_sort, "a merge sort in the manner of an external one"),
        DIRTYRING_GUEST(spmv, "sparse matrix times vector, iterated"),
        DIRTYRING_GUEST(writer, "a plain writer: pattern, rate and working set as you like"),
    };
    return guests;
}

const BuiltinGuest& replay_guest() noexcept {
    static const BuiltinGuest guest = DIRTYRING_GUEST(replay, "writes the pages that it is told");
    return guest;
}

}  // namespace dirtyring::cli
