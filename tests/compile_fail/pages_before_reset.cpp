// SPDX-License-Identifier: MIT
//
// Pages may be read after the reset, not before.
#include "dirtyring/harvest.hpp"

void use(dirtyring::Ring& ring, dirtyring::ResetHandle& handle, const dirtyring::MemoryMap& map) {
    dirtyring::Harvest harvest(map);
    harvest.take(ring);
#ifdef MISUSE
    harvest.for_each_run([](const dirtyring::PageRun&) {});
#else
    const auto pages = handle.reset(std::move(harvest));
    pages->for_each_run([](const dirtyring::PageRun&) {});
#endif
}
