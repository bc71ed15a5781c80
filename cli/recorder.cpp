// SPDX-License-Identifier: MIT
#include "recorder.hpp"

#include <utility>

#include "summary.hpp"
#include "svg.hpp"

namespace dirtyring::cli {

namespace {

template <typename File>
Result<void> open_if_wanted(const std::string& path, std::optional<File>& file) {
    if (path.empty()) {
        return {};
    }
    Result<OutputFile> opened = OutputFile::create(path);
    if (!opened) {
        return fail(std::move(opened.error()));
    }
    file.emplace(std::move(*opened));
    return {};
}

Result<void> write_whole(std::optional<OutputFile>& file, const std::string& text) {
    return file->write(text).and_then([&] { return file->commit(); });
}

}  // namespace

Result<Recorder> Recorder::open(const RecorderPaths& paths) {
    Recorder recorder;
    const Result<void> opened =
        open_if_wanted(paths.json, recorder.json_file_)
            .and_then([&] { return open_if_wanted(paths.heatmap, recorder.heatmap_file_); })
            .and_then([&] { return open_if_wanted(paths.trace, recorder.trace_); });
    if (!opened) {
        return fail(opened.error());
    }
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

std::string Recorder::summary(const Outcome& outcome) const {
    return cli::summary(header_, *totals_, outcome);
}

Result<void> Recorder::finish(const Outcome& outcome) {
    Result<void> done;
    if (trace_) {
        done = trace_->finish(outcome);
    }
    if (done && json_file_) {
        done = write_whole(json_file_, json_->finish(*totals_, outcome));
    }
    if (done && heatmap_file_) {
        done = write_whole(heatmap_file_, svg(header_, *totals_, heat_map_));
    }
    return done;
}

}  // namespace dirtyring::cli
