// SPDX-License-Identifier: MIT
#include "dirtyring/source/bitmap_source.hpp"

#include <utility>

namespace dirtyring {

BitmapSource::BitmapSource(const kvm::Fd& vm, const MemoryMap& map, BitmapMode mode)
    : log_(vm, mode), pending_(map) {}

Result<Pages> BitmapSource::collect(DirtySet storage) {
    const std::lock_guard lock(mutex_);
    if (Result<void> read = log_.read(pending_); !read) {
        return fail(std::move(read.error()));
    }
    storage.prepare(pending_.memory());
    return Pages(std::exchange(pending_, std::move(storage)), Rearmed());
}

}  // namespace dirtyring
