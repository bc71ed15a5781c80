// SPDX-License-Identifier: MIT
#include "reset_summary.hpp"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "dirtyring/measure.hpp"
#include "dirtyring/memory.hpp"
#include "format.hpp"
#include "json_report.hpp"
#include "printable.hpp"
#include "summary.hpp"

namespace dirtyring::cli {

namespace {

std::string reset_ending(const ResetConfig& config, const Outcome& outcome) {
    switch (outcome.ending) {
        case Ending::succeeded:
            return fmt::format("succeeded: {}, as asked", counted(*config.rounds, "round"));
        case Ending::stopped:
            return "stopped " + outcome.reason;
        case Ending::failed:
            break;
    }
    std::string text = "failed: " + outcome.reason;
    for (const std::string& vcpu : outcome.vcpus) {
        const std::size_t more = vcpu.find('\n');  // of a fault's report
        text += more == std::string::npos ? std::string() : vcpu.substr(more);
    }
    return text;
}

void put_parts(std::string& out, const ResetConfig& config, const ResetFigures& total) {
    constexpr std::string_view row = "{:<8}{:>14}{:>13}\n";
    out += fmt::format(fmt::runtime(row), "part", "us a round", "of the time");
    const auto put_row = [&](std::string_view name, std::uint64_t nanoseconds) {
        out += fmt::format(
            fmt::runtime(row), name, fmt::format("{:.1f}", total.in_a_round(nanoseconds) / 1e3),
            percent(static_cast<double>(nanoseconds), static_cast<double>(total.nanoseconds)));
    };
    for (const ResetPart part : reset_parts(config.track, config.verify)) {
        put_row(name(part), total.of(part));
    }
    put_row("whole", total.nanoseconds);
}

}  // namespace

std::string reset_summary(const ResetConfig& config, const Header& header, const ResetState& end,
                          const Outcome& outcome) {
    const ResetFigures& total = end.total;
    std::string out;
    put_line(out, "guest",
             fmt::format("{}, {}, {}", header.guest, counted(header.vcpus, "vCPU"),
                         bytes(header.pages() * page_size)));
    put_line(out, "outcome", reset_ending(config, outcome));
    if (outcome.ending == Ending::failed) {
        put_line(out, "console", outcome.console);
    }
    put_line(out, "snapshot",
             end.snapshot_ns == 0
                 ? fmt::format("none: the guest had made {} of the {} before it", end.warm_up,
                               counted(machine::warm_up_rounds, "round"))
                 : fmt::format("taken after {}, in {}", counted(machine::warm_up_rounds, "round"),
                               duration(end.snapshot_ns)));
    put_line(out, "tracked by", tracking(header));
    if (total.rounds == 0) {
        return printable(out);
    }
    put_line(
        out, "rounds",
        fmt::format("{} in {}, {} a second", grouped(total.rounds), duration(total.nanoseconds),
                    grouped(per_second(total.rounds, total.nanoseconds))));
    if (config.verify) {
        put_line(out, "verified",
                 fmt::format("all memory and state, after {}", counted(total.rounds, "round")));
    }
    put_line(out, "pages",
             fmt::format("{} in a round, {} of them changed; {} hot after the last",
                         grouped(total.in_a_round(total.pages)),
                         grouped(total.in_a_round(total.changed)), grouped(total.hot)));
    put_line(out, "losses",
             total.everything == 0 ? "none"
                                   : fmt::format("{} after which every page counted as dirty",
                                                 counted(total.everything, "round")));
    out += '\n';
    put_parts(out, config, total);
    return printable(out);
}

ResetJson::ResetJson(const ResetConfig& config, const Header& header, const BenchHost& host)
    : track_(config.track),
      verify_(config.verify),
      document_(document_of("dirtyring reset", header)) {
    document_["host"] = json_of(host);
    document_["verify"] = verify_;
}

nlohmann::ordered_json ResetJson::figures(const ResetFigures& figures) const {
    nlohmann::ordered_json json{
        {"rounds", figures.rounds},     {"duration_ns", figures.nanoseconds},
        {"dirty_pages", figures.pages}, {"changed_pages", figures.changed},
        {"hot_pages", figures.hot},     {"rounds_everything", figures.everything}};
    if (verify_) {
        json["rounds_verified"] = figures.rounds;
    }
    if (track_ == Track::ring) {
        json["ring_full_exits"] = figures.full_exits;
    }
    for (const ResetPart part : reset_parts(track_, verify_)) {
        std::string key(name(part));
        std::erase(key, '-');
        json[key + "_ns"] = figures.of(part);
    }
    return json;
}

void ResetJson::add(const ResetState& state) {
    nlohmann::ordered_json json{{"end_ns", state.elapsed_ns}};
    json.update(figures(state.last));
    intervals_.push_back(std::move(json));
}

std::string ResetJson::finish(const ResetState& end, const Outcome& outcome) {
    document_["outcome"] = json_of(outcome);
    document_["snapshot_ns"] = end.snapshot_ns;
    document_["totals"] = figures(end.total);
    document_["intervals"] = std::move(intervals_);
    return dump(document_);
}

}  // namespace dirtyring::cli
