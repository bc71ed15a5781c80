// SPDX-License-Identifier: MIT
#include "snapshot_layer.hpp"

#include <cstring>
#include <string>
#include <utility>

#include "sys.hpp"

namespace dirtyring {

namespace {

bool is_zero(const std::byte* page) {
    return std::memcmp(page, zero_page.data(), page_size) == 0;
}

Result<std::shared_ptr<Image>> make_image(std::optional<kvm::Fd>& file, std::uint64_t bytes) {
    auto image = std::make_shared<Image>(
        Image{file ? std::move(*file) : kvm::Fd::own(-1), kvm::Mapping(), PageSet(0)});
    if (!file) {
        const int fd = sys::memfd_create("dirtyring snapshot");
        if (fd < 0) {
            return fail({-fd, "memfd_create(copy of guest memory)", {}, {}});
        }
        image->file = kvm::Fd::own(fd);
    }
    if (const int sized = sys::ftruncate(image->file.get(), static_cast<long>(bytes)); sized < 0) {
        return fail({-sized,
                     "ftruncate(copy of guest memory, " + std::to_string(bytes) + " bytes)",
                     {},
                     {}});
    }
    return kvm::Mapping::map(image->file, static_cast<std::size_t>(bytes), 0,
                             "copy of guest memory")
        .map([&](kvm::Mapping&& mapping) {
            image->mapping = std::move(mapping);
            return image;
        });
}

void copy_memory(const DirtySet& numbers, Image& image,
                 const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
    constexpr std::uint64_t step = std::uint64_t{64} << 20;
    const MemoryMap& map = numbers.memory();
    const std::uint64_t total = map.bytes();
    image.held = PageSet(numbers.numbers());
    std::uint64_t done = 0;
    for (const MemorySlot& slot : map.slots()) {
        for (std::uint64_t at = 0; at < slot.size; at += page_size) {
            if (!is_zero(slot.host + at)) {
                std::memcpy(image.at(done), slot.host + at, page_size);
                image.held.insert(numbers.number(slot.slot, at / page_size));
            }
            done += page_size;
            if (progress && (done % step == 0 || done == total)) {
                progress(done, total);
            }
        }
    }
}

}  // namespace

Result<std::shared_ptr<const Image>> Image::take(
    const DirtySet& numbers, std::optional<kvm::Fd> file,
    const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
    return make_image(file, numbers.memory().bytes()).map([&](std::shared_ptr<Image>&& image) {
        copy_memory(numbers, *image, progress);
        return std::shared_ptr<const Image>(std::move(image));
    });
}

}  // namespace dirtyring
