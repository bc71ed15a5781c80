// SPDX-License-Identifier: MIT
//
// A guest that Snapshot resets.
#pragma once

#include <memory>

#include "dirtyring/snapshot.hpp"
#include "dirtyring/source/source.hpp"
#include "dirtyring/tracker.hpp"
#include "reset_loop.hpp"

namespace dirtyring::bench {

class SnapshotLoop final : public ResetLoop {
  public:
    /// Takes the snapshot. Errors: those of Tracker::add_vcpu and Snapshot::take.
    [[nodiscard]] static Result<std::unique_ptr<SnapshotLoop>> create(
        ResetGuest guest, std::unique_ptr<Source> source);
    /// Of a clone of that one. Errors: those of Tracker::add_vcpu and Snapshot::clone_to.
    [[nodiscard]] static Result<std::unique_ptr<SnapshotLoop>> clone(ResetGuest guest,
                                                                     std::unique_ptr<Source> source,
                                                                     const Snapshot& of);

    void write(std::uint64_t pages) override { guest_.write(pages); }
    void prepare(std::uint64_t) override {}
    Result<void> round() override;
    Result<void> check() override { return guest_.check(); }
    [[nodiscard]] std::uint64_t pages() const override { return last_.pages; }
    [[nodiscard]] std::uint64_t hot() const override { return last_.hot; }
    [[nodiscard]] const Snapshot& snapshot() const { return *snapshot_; }

  private:
    SnapshotLoop(ResetGuest guest, std::unique_ptr<Source> source)
        : guest_(std::move(guest)), tracker_(std::move(source)) {}
    template <typename Take>
    Result<void> begin(Take&& take);
    [[nodiscard]] GuestParts parts() {
        return {nullptr, {{&guest_.machine().vcpu(0), &guest_.run_area()}}};
    }

    ResetGuest guest_;
    Tracker tracker_;
    std::optional<Snapshot> snapshot_;
    RestoreReport last_;
};

}  // namespace dirtyring::bench
