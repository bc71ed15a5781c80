// SPDX-License-Identifier: MIT
#include "guest.hpp"

// xorshift64 chooses the pages.
asm(R"(
    .section .rodata
    .balign 4
    .global dirtyring_guest_begin, dirtyring_guest_end
dirtyring_guest_begin:
1:  mov     x7, x5
2:  eor     x2, x2, x2, lsl #13
    eor     x2, x2, x2, lsr #7
    eor     x2, x2, x2, lsl #17
    and     x8, x2, x1
    add     x8, x0, x8, lsl #12
    add     x3, x3, #1
    str     x3, [x8, x4]
    subs    x7, x7, #1
    b.ne    2b
    str     x3, [x6]
    b       1b
dirtyring_guest_end:
    .text
)");

extern "C" const std::byte dirtyring_guest_begin[];
extern "C" const std::byte dirtyring_guest_end[];

namespace dirtyring::arm64 {

std::span<const std::byte> guest_code() {
    return {dirtyring_guest_begin, dirtyring_guest_end};
}

}  // namespace dirtyring::arm64
