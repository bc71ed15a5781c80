// SPDX-License-Identifier: MIT
//
// An error cannot be dropped by leaving the result alone.
#include "dirtyring/source/ring_source.hpp"

bool use(dirtyring::RingSource& source) {
#ifdef MISUSE
    source.collect({});
    return true;
#else
    return source.collect({}).has_value();
#endif
}
