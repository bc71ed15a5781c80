// SPDX-License-Identifier: MIT
#include "trace_writer.hpp"

namespace dirtyring::cli {

Result<void> TraceWriter::write(trace::Kind kind) {
    frame_.clear();
    frame_ += static_cast<char>(kind);
    trace::put_u32(frame_, static_cast<std::uint32_t>(payload_.size()));
    frame_ += payload_;
    trace::put_u32(frame_, trace::crc32(frame_));
    payload_.clear();
    return file_.write(frame_);
}

Result<void> TraceWriter::begin(const Header& header) {
    rings_ = header.track == Track::ring;
    trace::put_text(payload_, header.guest);
    trace::put_number(payload_, static_cast<std::uint64_t>(header.track));
    trace::put_number(payload_, header.ring_entries);
    trace::put_number(payload_, header.vcpus);
    trace::put_number(payload_, header.interval_ns);
    trace::put_number(payload_, header.slots.size());
    for (const Slot& slot : header.slots) {
        trace::put_number(payload_, slot.guest_address);
        trace::put_number(payload_, slot.pages);
    }
    trace::put_number(payload_, header.params.size());
    for (const auto& [name, value] : header.params) {
        trace::put_text(payload_, name);
        trace::put_text(payload_, value);
    }
    return file_.write(trace::magic).and_then([this] { return write(trace::Kind::header); });
}

Result<void> TraceWriter::add(const Interval& interval) {
    trace::put_number(payload_, interval.end_ns - interval.begin_ns);
    trace::put_number(payload_, interval.everything ? 1 : 0);
    trace::put_number(payload_, interval.harvest_ns);
    trace::put_number(payload_, interval.reset_ns);
    for (const VcpuFigures& vcpu : interval.vcpus) {
        trace::put_number(payload_, vcpu.rounds);
        trace::put_number(payload_, vcpu.page_writes);
        if (rings_) {
            trace::put_number(payload_, vcpu.entries);
            trace::put_number(payload_, vcpu.distinct);
            trace::put_number(payload_, vcpu.full_exits);
            trace::put_number(payload_, vcpu.overruns);
            trace::put_number(payload_, vcpu.lost);
            trace::put_number(payload_, vcpu.peak_fill);
        }
    }
    trace::put_number(payload_, interval.spans.size());
    std::uint64_t end = 0;
    for (const Span& span : interval.spans) {
        trace::put_number(payload_, span.first - end);
        trace::put_number(payload_, span.count);
        end = span.first + span.count;
    }
    return write(trace::Kind::interval);
}

Result<void> TraceWriter::finish(const Outcome& outcome) {
    trace::put_number(payload_, static_cast<std::uint64_t>(outcome.ending));
    trace::put_text(payload_, outcome.reason);
    for (const std::string& vcpu : outcome.vcpus) {
        trace::put_text(payload_, vcpu);
    }
    trace::put_text(payload_, outcome.console);
    return write(trace::Kind::outcome).and_then([this] { return file_.commit(); });
}

}  // namespace dirtyring::cli
