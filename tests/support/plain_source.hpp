// SPDX-License-Identifier: MIT
//
// A source with no kernel behind it: a test says what is written. It also shows how little a Source
// is, for those who have one of their own.
#pragma once

#include <cerrno>
#include <cstdint>
#include <utility>

#include "dirtyring/source/source.hpp"

namespace dirtyring::fake {

/// For one thread.
class PlainSource final : public Source {
  public:
    explicit PlainSource(const MemoryMap& map) : written_(map), suspects_(map) {}

    void write(std::uint32_t slot, std::uint64_t page) { written_.insert(slot, page); }
    /// The next collect says "everything".
    void lose() { lost_ = true; }
    /// The next collect fails.
    void fail_once() { fails_ = true; }
    /// From now on it is not known whether the next write to this page is seen.
    void suspect(std::uint32_t slot, std::uint64_t page) { suspects_.insert(slot, page); }

    [[nodiscard]] Result<Pages> collect(DirtySet storage) override {
        if (std::exchange(fails_, false)) {
            return fail({EIO, "PlainSource::collect", "the test wants it so", {}});
        }
        storage.prepare(written_.memory());
        Pages pages(std::exchange(written_, std::move(storage)), Rearmed());
        if (std::exchange(lost_, false)) {
            pages.mark_everything();
        } else if (!suspects_.empty()) {
            pages.mark_suspects(suspects_);
        }
        return pages;
    }

    void set_memory(const MemoryMap& map, AllVcpusStopped) override {
        for (DirtySet* set : {&written_, &suspects_}) {
            DirtySet now(map);
            now.merge_over(*set);
            *set = std::move(now);
        }
    }

    [[nodiscard]] MemoryMap memory() const override { return written_.memory(); }

  private:
    DirtySet written_;
    DirtySet suspects_;
    bool lost_ = false;
    bool fails_ = false;
};

}  // namespace dirtyring::fake
