// SPDX-License-Identifier: MIT
#include "dirtyring/measure.hpp"

namespace dirtyring {

std::uint64_t Histogram::below(double share) const noexcept {
    const double wanted = share * static_cast<double>(count_);
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < size; ++i) {
        seen += counts_[i];
        if (counts_[i] != 0 && static_cast<double>(seen) >= wanted) {
            return std::uint64_t{1} << i;
        }
    }
    return 0;
}

}  // namespace dirtyring
