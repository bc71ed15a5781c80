// SPDX-License-Identifier: MIT
//
// The pages of a harvest are shown before the reset only to those who say that all vCPUs are
// stopped.
#include "dirtyring/harvest.hpp"

const dirtyring::DirtySet& use(const dirtyring::Harvest& harvest) {
#ifdef MISUSE
    return harvest.pages();
#else
    return harvest.pages(dirtyring::AllVcpusStopped());
#endif
}
