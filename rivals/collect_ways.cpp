// SPDX-License-Identifier: MIT
#include "collect_ways.hpp"

#include <utility>

#include "dirtyring/source/bitmap_source.hpp"
#include "dirtyring/source/ring_source.hpp"
#include "dirtyring/tracker.hpp"
#include "peers.hpp"

namespace dirtyring::bench {

namespace {

/// This library: a tracker with one consumer.
class Ours final : public Way {
  public:
    explicit Ours(std::unique_ptr<Source> source)
        : tracker_(std::move(source)), consumer_(tracker_.add_consumer()) {}

    [[nodiscard]] Result<std::size_t> add(Ring ring) { return tracker_.add_vcpu(std::move(ring)); }

    Result<void> collect(std::vector<std::uint64_t>& addresses) override {
        return consumer_.collect().map([&](Epoch&& epoch) {
            epoch.pages().for_each_run([&](const PageRun& run) {
                for (std::uint64_t page = 0; page < run.count; ++page) {
                    addresses.push_back(run.guest_address() + page * page_size);
                }
            });
            epoch.commit();
        });
    }

  private:
    Tracker tracker_;
    Consumer consumer_;
};

/// NyxStyle or WtfStyle.
template <typename Style>
class Peer final : public Way {
  public:
    explicit Peer(Style style) : style_(std::move(style)) {}

    Result<void> collect(std::vector<std::uint64_t>& addresses) override {
        if (Result<void> collected = style_.collect(); !collected) {
            return collected;
        }
        style_.for_each([&](std::uint64_t address) { addresses.push_back(address); });
        return style_.done();
    }

  private:
    Style style_;
};

Result<std::unique_ptr<Way>> ring_ours(machine::Machine& machine) {
    Result<Ring> ring = Ring::map(machine.vcpu(0));
    if (!ring) {
        return fail(std::move(ring.error()));
    }
    auto ours =
        std::make_unique<Ours>(std::make_unique<RingSource>(machine.vm().fd(), machine.memory()));
    if (Result<std::size_t> added = ours->add(std::move(*ring)); !added) {
        return fail(std::move(added.error()));
    }
    return ours;
}

std::unique_ptr<Way> bitmap_ours(machine::Machine& machine, BitmapMode mode) {
    return std::make_unique<Ours>(
        std::make_unique<BitmapSource>(machine.vm().fd(), machine.memory(), mode));
}

Result<std::unique_ptr<Way>> ring_nyx(machine::Machine& machine) {
    Result<NyxStyle> style = NyxStyle::create(machine);
    if (!style) {
        return fail(std::move(style.error()));
    }
    return std::make_unique<Peer<NyxStyle>>(std::move(*style));
}

std::unique_ptr<Way> manual_wtf(machine::Machine& machine, WtfKey key) {
    return std::make_unique<Peer<WtfStyle>>(WtfStyle(machine, key));
}

}  // namespace

std::string_view name(Rival rival) noexcept {
    constexpr std::array<std::string_view, rivals> names = {
        "the ring",
        "the ring in the style of QEMU-Nyx",
        "the manually protected bitmap",
        "the bitmap in the style of wtf",
        "the bitmap in the style of wtf, by page numbers",
        "the bitmap"};
    return names[static_cast<std::size_t>(rival)];
}

Tracking tracking_of(Rival rival) noexcept {
    switch (rival) {
        case Rival::ring_ours:
        case Rival::ring_nyx:
            return Tracking::ring;
        case Rival::bitmap_ours:
            return Tracking::bitmap;
        case Rival::manual_ours:
        case Rival::manual_wtf:
        case Rival::manual_wtf_pages:
            break;
    }
    return Tracking::manual_bitmap;
}

Result<std::unique_ptr<Way>> make_way(Rival rival, machine::Machine& machine) {
    switch (rival) {
        case Rival::ring_ours:
            return ring_ours(machine);
        case Rival::ring_nyx:
            return ring_nyx(machine);
        case Rival::manual_ours:
            return bitmap_ours(machine, BitmapMode::manual);
        case Rival::manual_wtf:
            return manual_wtf(machine, WtfKey::address);
        case Rival::manual_wtf_pages:
            return manual_wtf(machine, WtfKey::page);
        case Rival::bitmap_ours:
            break;
    }
    return bitmap_ours(machine, BitmapMode::automatic);
}

}  // namespace dirtyring::bench
