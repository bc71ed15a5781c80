// SPDX-License-Identifier: MIT
#include "page_store.hpp"

#include <cstring>
#include <memory>

#include "dirtyring/huge_page_allocator.hpp"

namespace dirtyring {

Result<PageStore> PageStore::create(std::uint64_t numbers, std::uint64_t most) {
    std::size_t room = static_cast<std::size_t>(most) * page_size + huge_page;
    Result<kvm::Mapping> mapping = kvm::Mapping::anonymous(room, "copies of pages");
    if (!mapping) {
        return fail(std::move(mapping.error()));
    }
    PageStore store;
    store.mapping_ = std::move(*mapping);
    void* aligned = store.mapping_.address();
    std::align(huge_page, room - huge_page, aligned, room);
    advise_huge_pages(aligned, static_cast<std::size_t>(most) * page_size);
    store.copies_ = static_cast<std::byte*>(aligned);
    Result<kvm::Mapping> lines = kvm::Mapping::anonymous(
        static_cast<std::size_t>(most) * sizeof(std::uint64_t), "lines of copies of pages");
    if (!lines) {
        return fail(std::move(lines.error()));
    }
    store.lines_mapping_ = std::move(*lines);
    // SAFETY: a mapping of so many words, all zero bytes, which no other object knows.
    store.lines_ = {static_cast<std::uint64_t*>(store.lines_mapping_.address()),
                    static_cast<std::size_t>(most)};
    store.places_.resize(static_cast<std::size_t>(numbers));
    return store;
}

PageContent PageStore::add(std::uint64_t number, const std::byte* bytes) noexcept {
    const std::uint64_t lines = used_lines(bytes);
    if (used_ == lines_.size()) {
        return {bytes, lines};
    }
    std::memcpy(copies_ + used_ * page_size, bytes, page_size);
    lines_[used_] = lines;
    places_[number] = static_cast<std::uint32_t>(++used_);
    return find(number);
}

}  // namespace dirtyring
