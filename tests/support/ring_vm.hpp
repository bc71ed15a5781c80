// SPDX-License-Identifier: MIT
//
// A VM of the fake kernel, a RingSource over its rings, and their user, who keeps a copy of all
// memory by copying what each collect names. For one thread.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "dirtyring/source/ring_source.hpp"
#include "fake_kernel.hpp"
#include "must.hpp"
#include "page_list.hpp"

namespace dirtyring::fake {

struct Collected {
    PageList pages;  // by slot, then by page
    bool everything = false;
};

class RingVm {
  public:
    explicit RingVm(Config config)
        : kernel(config),
          source(Kernel::fd(), kernel.memory(),
                 config.with_bitmap ? RingBackup::bitmap : RingBackup::none) {
        kernel.answer(faults);
        for (std::uint32_t vcpu = 0; vcpu < config.vcpus; ++vcpu) {
            source.add(must(Ring::over(kernel.ring(vcpu))));
        }
        for (const Slot& slot : config.slots) {
            copy_.emplace_back(slot.pages);
        }
    }

    /// The guest's store, which no ring is too full for.
    void store(std::uint32_t vcpu, std::uint32_t slot, std::uint64_t page) {
        if (!try_store(vcpu, slot, page)) {
            throw std::runtime_error("the ring of vCPU " + std::to_string(vcpu) + " is full");
        }
    }
    /// KVM's own store, made while no vCPU runs.
    void store_without_vcpu(std::uint32_t slot, std::uint64_t page) {
        kernel.write_without_vcpu(slot, page, ++stores_);
    }
    /// Stores into the `count` pages from `first` on; gives how many it came to before the ring was
    /// full.
    std::uint64_t store_until_full(std::uint32_t vcpu, std::uint32_t slot, std::uint64_t first,
                                   std::uint64_t count) {
        std::uint64_t stored = 0;
        while (stored < count && try_store(vcpu, slot, first + stored)) {
            ++stored;
        }
        return stored;
    }
    /// The same for all of them, with ring_full whenever it is; gives how often it was.
    std::uint32_t run(std::uint32_t vcpu, std::uint32_t slot, std::uint64_t first,
                      std::uint64_t count) {
        std::uint32_t exits = 0;
        std::uint32_t in_a_row = 0;
        for (std::uint64_t i = 0; i < count;) {
            const std::uint64_t stored = store_until_full(vcpu, slot, first + i, count - i);
            i += stored;
            in_a_row = stored == 0 ? in_a_row : 0;
            if (i < count) {
                must(source.ring_full(vcpu));
                ++exits;
                if (++in_a_row > most_exits) {
                    throw std::runtime_error("vCPU " + std::to_string(vcpu) + " does not run on");
                }
            }
        }
        return exits;
    }
    /// Logs `count` entries past whatever the soft limit says, of pages from `first` on.
    void overrun(std::uint32_t vcpu, std::uint32_t slot, std::uint64_t first, std::uint64_t count) {
        kernel.set_look_every(~std::uint32_t{0});
        for (std::uint64_t i = 0; i < count; ++i) {
            store(vcpu, slot, first + i);
        }
        kernel.set_look_every(1);
    }

    Collected collect() {
        Pages pages = must(source.collect(std::move(storage_)));
        Collected collected = {list_of(pages.set()), pages.everything()};
        for (const auto& [slot, page] : collected.pages) {
            copy_[kernel.memory().find(slot)][page] = kernel.read(slot, page);
        }
        storage_ = std::move(pages).recycle();
        return collected;
    }

    /// Every page of every slot.
    [[nodiscard]] PageList all_pages() const {
        return pages_where(kernel.memory(), [](const Page&) { return true; });
    }
    /// Pages whose content the copy does not have.
    [[nodiscard]] PageList lost() const {
        return pages_where(kernel.memory(), [this](const Page& page) {
            return copy_[kernel.memory().find(page.first)][page.second] !=
                   kernel.read(page.first, page.second);
        });
    }
    /// Pages whose next write would go unlogged.
    [[nodiscard]] PageList unarmed() const {
        return pages_where(kernel.memory(), [this](const Page& page) {
            return !kernel.armed(page.first, page.second);
        });
    }

    faulty::Faults faults;
    Kernel kernel;
    RingSource source;

  private:
    // The most that an overrun leaves to be caught up with is a few times what one exit catches up.
    static constexpr std::uint32_t most_exits = 20;

    bool try_store(std::uint32_t vcpu, std::uint32_t slot, std::uint64_t page) {
        return kernel.write(vcpu, slot, page, ++stores_);
    }

    std::uint64_t stores_ = 0;
    std::vector<std::vector<std::uint64_t>> copy_;  // of the first word of each page
    DirtySet storage_;
};

}  // namespace dirtyring::fake
