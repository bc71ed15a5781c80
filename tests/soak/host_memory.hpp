// SPDX-License-Identifier: MIT
//
// All memory that may be behind a slot, page by page: the guest's own, and windows for slots that
// come and go. A page has one number for as long as it is there, whatever slot shows it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <span>

#include "dirtyring/memory.hpp"

namespace dirtyring::soak {

inline constexpr std::size_t words_a_page = page_size / sizeof(std::uint64_t);

/// A word of memory that others read or write at the same time.
inline std::atomic_ref<std::uint64_t> shared_word(std::byte* page, std::size_t index) {
    // SAFETY: a page is aligned to more than a word and holds words_a_page of them; whoever of this
    // program accesses it at the same time does so by this function. A guest does as it likes, as
    // with any memory that is shared with another process.
    return std::atomic_ref(reinterpret_cast<std::uint64_t*>(page)[index]);
}

class HostMemory {
  public:
    static constexpr std::size_t windows = 4;
    static constexpr std::uint64_t window_pages = 256;
    static constexpr std::size_t windows_bytes = windows * window_pages * page_size;

    struct Free {
        void operator()(std::byte* memory) const { std::free(memory); }
    };
    using Windows = std::unique_ptr<std::byte[], Free>;
    /// Zeroed memory for all windows.
    static Windows make_windows() {
        Windows made(static_cast<std::byte*>(std::aligned_alloc(page_size, windows_bytes)));
        if (made == nullptr) {
            throw std::bad_alloc();
        }
        std::memset(made.get(), 0, windows_bytes);
        return made;
    }

    /// Both outlive this, and the VM that has slots over them.
    HostMemory(std::span<std::byte> guest, const Windows& windows_memory)
        : guest_(guest), windows_(windows_memory.get()) {}

    [[nodiscard]] std::uint64_t pages() const {
        return (guest_.size() + windows_bytes) / page_size;
    }
    /// `at` is the first byte of a page of it.
    [[nodiscard]] std::uint64_t number(const std::byte* at) const {
        const bool own = at >= guest_.data() && at < guest_.data() + guest_.size();
        return own ? static_cast<std::uint64_t>(at - guest_.data()) / page_size
                   : (guest_.size() + static_cast<std::uint64_t>(at - windows_)) / page_size;
    }
    [[nodiscard]] std::byte* window(std::size_t index) const {
        return windows_ + index * window_pages * page_size;
    }

  private:
    std::span<std::byte> guest_;
    std::byte* windows_;
};

}  // namespace dirtyring::soak
