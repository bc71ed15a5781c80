// SPDX-License-Identifier: MIT
//
// A kernel struct that ends in an array: a header with a count, and the elements behind it, in one
// block.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

namespace dirtyring::kvm {

/// Header and Element are the kernel's own layouts. Not thread-safe; any one thread.
template <typename Header, typename Element>
class FlexArray {
    static_assert(std::is_trivially_copyable_v<Header> && std::is_trivially_copyable_v<Element>);
    static_assert(sizeof(Header) % alignof(Element) == 0, "the elements follow without padding");

  public:
    /// `elements` elements of zero bytes.
    FlexArray(const Header& header, std::size_t elements) {
        const std::span<const std::byte> from = std::as_bytes(std::span(&header, 1));
        bytes_.reserve(sizeof(Header) + elements * sizeof(Element));
        bytes_.assign(from.begin(), from.end());
        bytes_.resize(sizeof(Header) + elements * sizeof(Element));
    }
    FlexArray(const Header& header, std::span<const Element> elements)
        : FlexArray(header, elements.size()) {
        const std::span<const std::byte> from = std::as_bytes(elements);
        std::copy(from.begin(), from.end(), bytes_.begin() + sizeof(Header));
    }

    [[nodiscard]] Header header() const {
        Header header;
        std::memcpy(&header, bytes_.data(), sizeof header);
        return header;
    }

    /// Copies of the first `count` elements; of all where `count` is more than there are.
    [[nodiscard]] std::vector<Element> elements(std::size_t count) const {
        const std::size_t held = (bytes_.size() - sizeof(Header)) / sizeof(Element);
        std::vector<Element> copy(std::min(count, held));
        const std::span<std::byte> to = std::as_writable_bytes(std::span(copy));
        std::copy_n(bytes_.begin() + sizeof(Header), to.size(), to.begin());
        return copy;
    }

    /// For the ioctl. The block is aligned as operator new aligns: enough for every KVM struct.
    [[nodiscard]] void* data() { return bytes_.data(); }

  private:
    std::vector<std::byte> bytes_;
};

}  // namespace dirtyring::kvm
