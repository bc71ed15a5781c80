// SPDX-License-Identifier: MIT
//
// A token has to be named: empty braces do not make one.
#include "dirtyring/harvest.hpp"

const dirtyring::DirtySet& use(const dirtyring::Harvest& harvest) {
#ifdef MISUSE
    return harvest.pages({});
#else
    return harvest.pages(dirtyring::AllVcpusStopped{});
#endif
}
