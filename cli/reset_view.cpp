// SPDX-License-Identifier: MIT
#include "reset_view.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "dirtyring/measure.hpp"
#include "dirtyring/memory.hpp"
#include "format.hpp"
#include "output_file.hpp"
#include "reset_summary.hpp"
#include "screen.hpp"
#include "summary.hpp"
#include "terminal.hpp"

namespace dirtyring::cli {

namespace {

class ResetLines final : public ResetView {
  public:
    Result<void> begin(const ResetConfig& config, const Header&) override {
        parts_ = reset_parts(config.track, config.verify);
        std::string line = fmt::format("{:>9}{:>10}{:>9}{:>9}{:>9}", "time_s", "rounds/s", "pages",
                                       "changed", "hot");
        for (const ResetPart part : parts_) {
            line += fmt::format("{:>12}", fmt::format("{}_us", name(part)));
        }
        return write_all(STDOUT_FILENO, line + "\n", "standard output");
    }
    Result<void> show(const ResetState& state) override {
        const ResetFigures& last = state.last;
        std::string line = fmt::format(
            "{:>9.3f}{:>10.0f}{:>9.0f}{:>9.0f}{:>9}", static_cast<double>(state.elapsed_ns) / 1e9,
            per_second(last.rounds, last.nanoseconds), last.in_a_round(last.pages),
            last.in_a_round(last.changed), last.hot);
        for (const ResetPart part : parts_) {
            line += fmt::format("{:>12.1f}", last.in_a_round(last.of(part)) / 1e3);
        }
        return write_all(STDOUT_FILENO, line + "\n", "standard output");
    }
    Result<void> end() override { return {}; }

  private:
    std::vector<ResetPart> parts_;
};

class ResetTable final : public ResetView {
  public:
    Result<void> begin(const ResetConfig& config, const Header& header) override {
        return screen_.begin([&] {
            rounds_ = config.rounds;
            parts_ = reset_parts(config.track, config.verify);
            header_ = header;
        });
    }
    Result<void> show(const ResetState& state) override {
        return screen_.update([&] { state_ = state; });
    }
    Result<void> end() override { return screen_.end(); }
    Result<void> redraw() override {
        return screen_.update([] {});
    }
    Result<void> step_aside(const std::function<void()>& meanwhile) override {
        return screen_.step_aside(meanwhile);
    }

  private:
    void draw(Frame& frame) const;
    void put_rounds(Frame& frame) const;
    void put_pages(Frame& frame) const;
    void put_part(Frame& frame, ResetPart part) const;

    std::optional<std::uint64_t> rounds_;  // that there are to be
    std::vector<ResetPart> parts_;
    Header header_;
    ResetState state_;
    Screen screen_{[this](Frame& frame) { draw(frame); }};  // last: it draws the others
};

void ResetTable::put_rounds(Frame& frame) const {
    if (state_.snapshot_ns == 0) {
        frame.put(fmt::format(" before the snapshot: {} of {}", state_.warm_up,
                              counted(machine::warm_up_rounds, "round")));
        return;
    }
    const ResetFigures& last = state_.last;
    const std::string rate = grouped(per_second(last.rounds, last.nanoseconds));
    frame.put(fmt::format(" {} rounds/s, {}{}", rate, grouped(state_.total.rounds),
                          rounds_ ? " of " + grouped(*rounds_) : " so far"),
              terminal::bold);
}

void ResetTable::put_pages(Frame& frame) const {
    const ResetFigures& last = state_.last;
    const std::string_view text = frame.narrow()
                                      ? " {} pages, {} changed, {} hot"
                                      : " {} pages in a round, {} of them changed; {} are hot";
    frame.put(fmt::format(fmt::runtime(text), grouped(last.in_a_round(last.pages)),
                          grouped(last.in_a_round(last.changed)), grouped(last.hot)));
}

void ResetTable::put_part(Frame& frame, ResetPart part) const {
    const ResetFigures& last = state_.last;
    const std::uint64_t spent = last.of(part);
    const auto whole = static_cast<double>(last.nanoseconds);
    std::string row = fmt::format(" {:<8}{:>12.1f}{:>10}", name(part), last.in_a_round(spent) / 1e3,
                                  percent(static_cast<double>(spent), whole));
    constexpr std::size_t least_bar = 20;
    if (frame.width() > row.size() + 3 + least_bar && whole > 0) {
        const std::size_t room = std::min<std::size_t>(frame.width() - row.size() - 3, 60);
        const double share = static_cast<double>(spent) / whole;
        row += "  " + std::string(static_cast<std::size_t>(share * static_cast<double>(room)), '#');
    }
    frame.put(row);
}

// Who gets a row is decided in the order of what matters; then it is put together as it is read.
void ResetTable::draw(Frame& frame) const {
    int left = frame.rows() - 3;  // title, rounds, pages
    const auto take = [&left](int rows) {
        const bool fits = left >= rows;
        left -= fits ? rows : 0;
        return fits;
    };
    const bool losses = state_.total.everything != 0 && take(1);
    const int part_rows = std::clamp(left, 0, static_cast<int>(parts_.size()));
    take(part_rows);
    const bool head = take(1);
    const bool configuration = take(1);
    const bool blank_above_table = take(1);
    const bool blank_above_hint = take(1);
    const bool hint = take(1);

    frame.put_title(" dirtyring reset: " + header_.guest,
                    static_cast<double>(state_.elapsed_ns) / 1e9);
    if (configuration) {
        frame.put(fmt::format(
            " {}, {}{}", bytes(header_.pages() * page_size), tracking(header_),
            frame.narrow() ? std::string() : ", every " + duration(header_.interval_ns)));
    }
    put_rounds(frame);
    put_pages(frame);
    if (losses) {
        frame.put(
            fmt::format(" LOST: everything, after {}", counted(state_.total.everything, "round")),
            terminal::bold);
    }
    if (blank_above_table) {
        frame.put_blank();
    }
    if (head) {
        frame.put(fmt::format(" {:<8}{:>12}{:>10}", "part", "us a round", "of time"),
                  terminal::bold);
    }
    for (int row = 0; row < part_rows; ++row) {
        put_part(frame, parts_[static_cast<std::size_t>(row)]);
    }
    if (blank_above_hint) {
        frame.put_blank();
    }
    if (hint) {
        frame.put(" Ctrl-C ends it");
    }
}

}  // namespace

std::unique_ptr<ResetView> make_reset_view() {
    if (terminal::can_redraw()) {
        return std::make_unique<ResetTable>();
    }
    return std::make_unique<ResetLines>();
}

}  // namespace dirtyring::cli
