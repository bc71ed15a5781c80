// SPDX-License-Identifier: MIT
//
// A VM of the fake kernel and a tracker of it, by rings or by a bitmap. For one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "dirtyring/source/bitmap_source.hpp"
#include "dirtyring/source/ring_source.hpp"
#include "dirtyring/tracker.hpp"
#include "fake_kernel.hpp"
#include "must.hpp"
#include "page_list.hpp"

namespace dirtyring::fake {

class TrackedVm {
  public:
    explicit TrackedVm(const Config& config) : TrackedVm(config, std::nullopt) {}
    /// The tracker begins with the first `slots` of the kernel's only.
    TrackedVm(const Config& config, std::size_t slots) : TrackedVm(config, std::optional(slots)) {}

    /// The guest's store, which no ring is too full for.
    void store(std::uint32_t vcpu, std::uint32_t slot, std::uint64_t page) {
        if (!kernel.write(vcpu, slot, page, ++stores_)) {
            throw std::runtime_error("the ring of vCPU " + std::to_string(vcpu) + " is full");
        }
    }
    /// Stores into the `count` pages from `first` on, with ring_full whenever it is; gives how
    /// often it was.
    std::uint32_t run(std::uint32_t vcpu, std::uint32_t slot, std::uint64_t first,
                      std::uint64_t count) {
        std::uint32_t exits = 0;
        for (std::uint64_t i = 0; i < count; ++i) {
            while (!kernel.write(vcpu, slot, first + i, ++stores_)) {
                must(tracker.ring_full(vcpu));
                if (++exits > most_exits) {
                    throw std::runtime_error("vCPU " + std::to_string(vcpu) + " does not run on");
                }
            }
        }
        return exits;
    }
    /// Pages whose next write would go unlogged.
    [[nodiscard]] PageList unarmed() const {
        return pages_where(kernel.memory(), [this](const Page& page) {
            return !kernel.armed(page.first, page.second);
        });
    }
    /// One of the kernel's slots.
    [[nodiscard]] const MemorySlot& slot(std::uint32_t number) const {
        return kernel.memory().slots()[kernel.memory().find(number)];
    }

    faulty::Faults faults;
    Kernel kernel;
    Tracker tracker;

  private:
    static constexpr std::uint32_t most_exits = 1000;

    TrackedVm(const Config& config, std::optional<std::size_t> slots)
        : kernel(config), tracker(make_tracker(config, first(slots))) {
        kernel.answer(faults);
        for (std::uint32_t vcpu = 0; vcpu < config.vcpus && config.log == Log::rings; ++vcpu) {
            must(tracker.add_vcpu(must(Ring::over(kernel.ring(vcpu)))));
        }
    }
    [[nodiscard]] MemoryMap first(std::optional<std::size_t> slots) const {
        MemoryMap map;
        for (const MemorySlot& slot : kernel.memory().slots()) {
            if (!slots || map.slots().size() < *slots) {
                must(map.add(slot));
            }
        }
        return map;
    }
    static Tracker make_tracker(const Config& config, const MemoryMap& map) {
        if (config.log == Log::rings) {
            return Tracker(std::make_unique<RingSource>(Kernel::fd(), map));
        }
        const BitmapMode mode =
            config.log == Log::bitmap ? BitmapMode::automatic : BitmapMode::manual;
        return Tracker(std::make_unique<BitmapSource>(Kernel::fd(), map, mode));
    }

    std::uint64_t stores_ = 0;
};

inline PageList pages_of(const Epoch& epoch) {
    return list_of(epoch.pages().set());
}

/// A collect that is committed at once.
inline PageList collected(Consumer& consumer) {
    Epoch epoch = must(consumer.collect());
    PageList pages = pages_of(epoch);
    epoch.commit();
    return pages;
}

}  // namespace dirtyring::fake
