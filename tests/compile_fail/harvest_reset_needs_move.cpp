// SPDX-License-Identifier: MIT
//
// A reset takes the harvest away: nobody goes on with it by mistake.
#include "dirtyring/harvest.hpp"

dirtyring::Result<dirtyring::Pages> use(dirtyring::ResetHandle& handle,
                                        dirtyring::Harvest& harvest) {
#ifdef MISUSE
    return handle.reset(harvest);
#else
    return handle.reset(std::move(harvest));
#endif
}
