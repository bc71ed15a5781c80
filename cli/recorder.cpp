// SPDX-License-Identifier: MIT
#include "recorder.hpp"

#include <utility>

#include "summary.hpp"
#include "svg.hpp"

namespace dirtyring::cli {

namespace {

template <typename File>
Result<void> open_if_wanted(const std::string& path, std::optional<File>& file) {
    return create_if_wanted(path).map([&](std::optional<OutputFile>&& opened) {
        if (opened) {
            file.emplace(std::move(*opened));
        }
    });
}

}  // namespace

Result<Recorder> Recorder::open(const RecorderPaths& paths) {
    Recorder recorder;
    const Result<void> opened =
        open_if_wanted(paths.json, recorder.json_file_)
            .and_then([&] { return open_if_wanted(paths.heatmap, recorder.heatmap_file_); })
            .and_then([&] { return open_if_wanted(paths.trace, recorder.trace_); })
            .and_then([&] { return open_if_wanted(paths.stats, recorder.stats_file_); });
    if (!opened) {
        return fail(opened.error());
    }
    recorder.stats_as_json_ = paths.stats.ends_with(".json");
    return recorder;
}

Result<void> Recorder::begin(const Header& header) {
    header_ = header;
    totals_.emplace(header);
    if (json_file_) {
        json_.emplace(header);
    }
    return trace_ ? trace_->begin(header) : Result<void>();
}

Result<void> Recorder::add(const Interval& interval) {
    totals_->add(interval);
    if (json_) {
        json_->add(interval, totals_->distinct());
    }
    if (heatmap_file_) {
        heat_map_.add(interval);
    }
    return trace_ ? trace_->add(interval) : Result<void>();
}

std::string Recorder::summary(const Outcome& outcome, const Live* live) const {
    return cli::summary(header_, *totals_, outcome) +
           (live != nullptr ? live_summary(header_, *live) : std::string());
}

Result<void> Recorder::finish(const Outcome& outcome, const Live* live) {
    Result<void> done;
    if (trace_) {
        done = trace_->finish(outcome);
    }
    if (done && json_file_) {
        done = json_file_->finish(json_->finish(*totals_, outcome, live));
    }
    if (done && heatmap_file_) {
        done = heatmap_file_->finish(svg(header_, *totals_, heat_map_));
    }
    if (done && stats_file_) {
        done = stats_file_->finish(stats_as_json_ ? to_json(live->statistics) + "\n"
                                                  : to_prometheus(live->statistics));
    }
    return done;
}

}  // namespace dirtyring::cli
