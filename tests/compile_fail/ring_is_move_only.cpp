// SPDX-License-Identifier: MIT
//
// A ring has one reader: it can be moved, not copied.
#include "dirtyring/ring.hpp"

dirtyring::Ring use(dirtyring::Ring& ring) {
#ifdef MISUSE
    return ring;
#else
    return std::move(ring);
#endif
}
