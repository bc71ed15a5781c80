// SPDX-License-Identifier: MIT
#include "dirtyring/source/bitmap_source.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace dirtyring {

namespace {

// Clean words between dirty ones that are cheaper to hand to one KVM_CLEAR_DIRTY_LOG than to spend
// another call on: the kernel reads about one a nanosecond, a call costs some hundreds.
constexpr std::size_t gap_words = 256;
// Of one call, whose page count has 32 bits.
constexpr std::size_t most_words = std::size_t{1} << 20;

std::size_t words_of(const MemorySlot& slot) {
    return static_cast<std::size_t>((slot.pages() + 63) / 64);
}

}  // namespace

BitmapSource::BitmapSource(const kvm::Fd& vm, const MemoryMap& map, BitmapMode mode)
    : vm_(kvm::Vm::adopt(vm.ref())), mode_(mode), pending_(map) {
    std::size_t most = 0;
    for (const MemorySlot& slot : map.slots()) {
        most = std::max(most, words_of(slot));
    }
    bitmap_.resize(most);
}

Result<void> BitmapSource::clear_words(const MemorySlot& slot, std::size_t first,
                                       std::size_t end) const {
    const std::uint64_t first_page = std::uint64_t{first} * 64;
    const std::uint64_t pages = std::min(slot.pages(), std::uint64_t{end} * 64) - first_page;
    return vm_.clear_dirty_log(slot.slot, first_page, static_cast<std::uint32_t>(pages),
                               std::span(bitmap_).subspan(first, end - first));
}

Result<void> BitmapSource::collect_slot(std::size_t place) {
    const MemorySlot& slot = pending_.memory().slots()[place];
    const std::size_t words = words_of(slot);
    Result<void> done = vm_.get_dirty_log(slot.slot, std::span(bitmap_).first(words));
    std::size_t first = 0;  // of the words to be cleared by one call
    std::size_t end = 0;
    for (std::size_t i = 0; done && i < words; ++i) {
        if (bitmap_[i] == 0) {
            continue;
        }
        pending_.insert_word(place, i, bitmap_[i]);
        if (mode_ == BitmapMode::automatic) {
            continue;
        }
        if (end != 0 && (i - end > gap_words || i - first >= most_words)) {
            done = clear_words(slot, first, end);
            end = 0;
        }
        if (end == 0) {
            first = i;
        }
        end = i + 1;
    }
    if (done && end != 0) {
        done = clear_words(slot, first, end);
    }
    return done;
}

Result<Pages> BitmapSource::collect(DirtySet storage) {
    const std::lock_guard lock(mutex_);
    for (std::size_t place = 0; place < pending_.memory().slots().size(); ++place) {
        if (Result<void> done = collect_slot(place); !done) {
            Error& error = done.error();
            error.operation +=
                "(slot " + std::to_string(pending_.memory().slots()[place].slot) + ")";
            return fail(std::move(error));
        }
    }
    storage.prepare(pending_.memory());
    return Pages(std::exchange(pending_, std::move(storage)), Rearmed());
}

}  // namespace dirtyring
