// SPDX-License-Identifier: MIT
#include "reset_loop.hpp"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "collect_ways.hpp"
#include "dirtyring/source/bitmap_source.hpp"
#include "dirtyring/source/ring_source.hpp"
#include "machine/layout.hpp"
#include "snapshot_loop.hpp"

namespace dirtyring::bench {

namespace {

machine::Config config_of(Reset reset, const ResetCase& what) {
    const std::optional<Tracking> tracking = tracking_of(reset);
    return {.vcpus = 1,
            .ring_entries = tracking == Tracking::ring ? what.ring_entries : 0,
            .log_dirty = tracking.has_value(),
            .manual_protect = tracking == Tracking::manual_bitmap};
}

class Alone final : public ResetLoop {
  public:
    explicit Alone(ResetGuest guest) : guest_(std::move(guest)) {}

    void write(std::uint64_t pages) override { guest_.write(pages); }
    void prepare(std::uint64_t) override {}
    Result<void> round() override { return guest_.run(); }
    Result<void> check() override { return {}; }
    [[nodiscard]] std::uint64_t pages() const override { return 0; }
    [[nodiscard]] std::uint64_t hot() const override { return 0; }

  private:
    ResetGuest guest_;
};

/// memcpy of the pages that a way gives, and the registers, as Snapshot restores them.
class Copying : public ResetLoop {
  public:
    explicit Copying(ResetGuest guest) : guest_(std::move(guest)) {}

    Result<void> begin() {
        return guest_.save().and_then([this] { return start(); });
    }
    void write(std::uint64_t pages) override { guest_.write(pages); }
    void prepare(std::uint64_t) override {}
    Result<void> round() override {
        return guest_.run().and_then([this] { return find(); }).and_then([this](Offsets found) {
            return restore(found);
        });
    }
    Result<void> check() override { return guest_.check(); }
    [[nodiscard]] std::uint64_t pages() const override { return restored_; }
    [[nodiscard]] std::uint64_t hot() const override { return 0; }

  protected:
    using Offsets = std::span<const std::uint64_t>;

    /// The pages to be copied after a round, by where they lie in guest memory; good until the
    /// next.
    virtual Result<Offsets> find() = 0;

    [[nodiscard]] ResetGuest& guest() { return guest_; }
    Result<void> restore(Offsets offsets) {
        for (const std::uint64_t offset : offsets) {
            std::memcpy(guest_.bytes().data() + offset, guest_.saved(offset), page_size);
        }
        restored_ = offsets.size();
        return guest_.saved_state().restore(guest_.machine().vcpu(0), guest_.run_area());
    }

  private:
    virtual Result<void> start() = 0;

    ResetGuest guest_;
    std::uint64_t restored_ = 0;
};

/// Knows what each round writes, and has that ready before it is timed.
class Limit final : public Copying {
  public:
    using Copying::Copying;

    void prepare(std::uint64_t rounds) override {
        if (!guest().order()) {
            return;
        }
        offsets_.clear();
        ends_.clear();
        first_ = guest().round();
        for (std::uint64_t round = 0; round < rounds; ++round) {
            offsets_.insert(offsets_.end(), always_.begin(), always_.end());
            guest().add_written(first_ + round, offsets_);
            const auto begin = offsets_.begin() + (ends_.empty() ? 0 : ends_.back());
            std::sort(begin, offsets_.end());
            offsets_.erase(std::unique(begin, offsets_.end()), offsets_.end());
            ends_.push_back(std::distance(offsets_.begin(), offsets_.end()));
        }
    }

  private:
    // After its first round the guest's pages are compared with what they were. All but replay do
    // the same in each round; replay's own part, such as its stack, is the same too.
    Result<void> start() override {
        if (Result<void> ran = guest().run(); !ran) {
            return ran;
        }
        const std::vector<std::uint64_t> changed = guest().changed();
        for (const std::uint64_t offset : changed) {
            if (!guest().order() || offset < guest().heap()) {
                always_.push_back(offset);
            }
        }
        return restore(changed);
    }
    Result<Offsets> find() override {
        if (!guest().order()) {
            return Offsets(always_);
        }
        const std::size_t round = guest().round() - 1 - first_;
        const auto begin = round == 0 ? 0 : ends_[round - 1];
        return Offsets(offsets_).subspan(static_cast<std::size_t>(begin),
                                         static_cast<std::size_t>(ends_[round] - begin));
    }

    std::vector<std::uint64_t> always_;
    std::vector<std::uint64_t> offsets_;  // of the rounds from first_ on, one after the other
    std::vector<std::ptrdiff_t> ends_;    // of each
    std::uint64_t first_ = 0;
};

class Tracked final : public Copying {
  public:
    Tracked(ResetGuest guest, Rival rival) : Copying(std::move(guest)), rival_(rival) {}

  private:
    Result<void> start() override {
        Result<std::unique_ptr<Way>> way = make_way(rival_, guest().machine());
        if (!way) {
            return fail(std::move(way.error()));
        }
        way_ = std::move(*way);
        return way_->collect(offsets_);  // what was written before
    }
    Result<Offsets> find() override {
        offsets_.clear();
        return way_->collect(offsets_).map([this] {
            for (std::uint64_t& address : offsets_) {
                address = machine::layout::guest_virtual(address);
            }
            return Offsets(offsets_);
        });
    }

    Rival rival_;
    std::unique_ptr<Way> way_;
    std::vector<std::uint64_t> offsets_;
};

std::unique_ptr<Source> source_of(Reset reset, machine::Machine& machine) {
    if (reset == Reset::manual) {
        return std::make_unique<BitmapSource>(machine.vm().fd(), machine.memory(),
                                              BitmapMode::manual);
    }
    return std::make_unique<RingSource>(machine.vm().fd(), machine.memory());
}

template <typename Loop>
Result<std::unique_ptr<ResetLoop>> begun(std::unique_ptr<Loop> loop) {
    return loop->begin().map([&] { return std::unique_ptr<ResetLoop>(std::move(loop)); });
}

}  // namespace

std::string_view name(Reset reset) noexcept {
    constexpr std::array<std::string_view, all_resets.size()> names = {
        "alone", "limit", "ours", "manual", "ring", "bitmap", "wtf", "nyx"};
    return names[static_cast<std::size_t>(reset)];
}

std::optional<Tracking> tracking_of(Reset reset) noexcept {
    switch (reset) {
        case Reset::alone:
        case Reset::limit:
            return std::nullopt;
        case Reset::ours:
        case Reset::ring:
        case Reset::nyx:
            return Tracking::ring;
        case Reset::bitmap:
            return Tracking::bitmap;
        case Reset::manual:
        case Reset::wtf:
            break;
    }
    return Tracking::manual_bitmap;
}

Result<std::unique_ptr<ResetLoop>> make_loop(Reset reset, const ResetCase& what) {
    Result<ResetGuest> guest = ResetGuest::create(config_of(reset, what), what);
    if (!guest) {
        return fail(std::move(guest.error()));
    }
    switch (reset) {
        case Reset::alone:
            return std::make_unique<Alone>(std::move(*guest));
        case Reset::limit:
            return begun(std::make_unique<Limit>(std::move(*guest)));
        case Reset::ring:
            return begun(std::make_unique<Tracked>(std::move(*guest), Rival::ring_ours));
        case Reset::bitmap:
            return begun(std::make_unique<Tracked>(std::move(*guest), Rival::bitmap_ours));
        case Reset::wtf:
            return begun(std::make_unique<Tracked>(std::move(*guest), Rival::manual_wtf_pages));
        case Reset::nyx:
            return begun(std::make_unique<Tracked>(std::move(*guest), Rival::ring_nyx));
        case Reset::ours:
        case Reset::manual:
            break;
    }
    std::unique_ptr<Source> source = source_of(reset, guest->machine());
    return SnapshotLoop::create(std::move(*guest), std::move(source))
        .map([](std::unique_ptr<SnapshotLoop>&& loop) {
            return std::unique_ptr<ResetLoop>(std::move(loop));
        });
}

}  // namespace dirtyring::bench
