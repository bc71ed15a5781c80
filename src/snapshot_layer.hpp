// SPDX-License-Identifier: MIT
//
// Where a snapshot has its pages: in a store of single copies, in the snapshot that it was taken on
// top of, and at last in a copy of all memory, which clones share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "dirtyring/dirty_set.hpp"
#include "dirtyring/error.hpp"
#include "dirtyring/kvm/fd.hpp"
#include "dirtyring/kvm/mapping.hpp"
#include "dirtyring/memory.hpp"
#include "dirtyring/page_set.hpp"
#include "page_store.hpp"

namespace dirtyring {

/// The copy of all memory, end to end. Not changed once it is made.
struct Image {
    /// Copies the memory of these slots, none of which is being written, to `file`, or to a memfd
    /// where there is none. Tells `progress`, if it is there, bytes done and in all. Errors: those
    /// of memfd_create, ftruncate and mmap.
    [[nodiscard]] static Result<std::shared_ptr<const Image>> take(
        const DirtySet& numbers, std::optional<kvm::Fd> file,
        const std::function<void(std::uint64_t, std::uint64_t)>& progress);

    kvm::Fd file;
    kvm::Mapping mapping;
    // Pages that are not zero, by number. The others are holes, and are never looked at: reading a
    // hole of a memfd fills it.
    PageSet held{0};

    [[nodiscard]] std::byte* at(std::uint64_t offset) const {
        return static_cast<std::byte*>(mapping.address()) + offset;
    }
    [[nodiscard]] PageContent find(std::uint64_t number, std::uint64_t offset) const {
        return held.contains(number) ? PageContent{at(offset)} : PageContent{zero_page.data(), 0};
    }
};

/// A snapshot's pages: those in its store, the rest in the one that it was taken on top of, and at
/// last in the image.
struct Layer {
    std::shared_ptr<const Image> image;
    std::shared_ptr<const Layer> below;
    PageStore store;

    [[nodiscard]] PageContent find(std::uint64_t number, std::uint64_t offset) const {
        const PageContent copy = store.find(number);
        return copy.bytes != nullptr ? copy : find_below(number, offset);
    }
    /// The same, but not necessarily the copy that is walked fastest: what a snapshot on top of no
    /// other has in its store is in the image, too, and found there without a look at the store.
    [[nodiscard]] PageContent find_any(std::uint64_t number, std::uint64_t offset) const {
        return below != nullptr ? find(number, offset) : image->find(number, offset);
    }

  private:
    [[nodiscard]] PageContent find_below(std::uint64_t number, std::uint64_t offset) const {
        return below != nullptr ? below->find(number, offset) : image->find(number, offset);
    }
};

}  // namespace dirtyring
