// SPDX-License-Identifier: MIT
#include "trace_reader.hpp"

#include <fmt/format.h>

#include <cerrno>

#include "dirtyring/memory.hpp"
#include "machine/config.hpp"

namespace dirtyring::cli {

namespace {

// What a machine can have. More is a damaged trace, and must not make us allocate for it.
constexpr std::uint64_t max_pages = machine::max_memory / page_size;
constexpr std::uint64_t max_slots = 16;
constexpr std::uint64_t max_params = 16;

}  // namespace

tl::unexpected<Error> TraceReader::refuse(std::string cause) const {
    return fail({0, fmt::format("read the trace {}", path_), std::move(cause),
                 "give a file that dirtyring run --trace has written"});
}

tl::unexpected<Error> TraceReader::damaged() const {
    return refuse(fmt::format("its record {} is damaged", record_));
}

/// Fills bytes_; gives how many there were.
Result<std::size_t> TraceReader::read(std::size_t bytes) {
    // In pieces: a damaged length must not cost more memory than the file has bytes.
    constexpr std::size_t piece = std::size_t{1} << 20;
    bytes_.clear();
    while (bytes_.size() < bytes) {
        const std::size_t had = bytes_.size();
        const std::size_t wanted = std::min(piece, bytes - had);
        bytes_.resize(had + wanted);
        errno = 0;
        const std::size_t got = std::fread(bytes_.data() + had, 1, wanted, file_.get());
        bytes_.resize(had + got);
        if (got < wanted) {
            if (std::ferror(file_.get()) != 0) {
                return fail({errno, fmt::format("read the trace {}", path_), {}, {}});
            }
            break;
        }
    }
    return bytes_.size();
}

Result<trace::Kind> TraceReader::read_record() {
    ++record_;
    Result<std::size_t> got = read(trace::frame_head);
    if (!got) {
        return fail(std::move(got.error()));
    }
    if (*got < trace::frame_head) {
        return refuse(fmt::format("it was cut short: it ends in place of record {}", record_));
    }
    const std::uint8_t kind = static_cast<std::uint8_t>(bytes_[0]);
    const std::uint32_t length = trace::get_u32(std::string_view(bytes_).substr(1));
    const std::uint32_t head_crc = trace::crc32(bytes_);
    if (length > trace::max_payload) {
        return damaged();
    }
    got = read(std::size_t{length} + trace::frame_tail);
    if (!got) {
        return fail(std::move(got.error()));
    }
    if (*got < std::size_t{length} + trace::frame_tail) {
        return refuse(fmt::format("it was cut short, in its record {}", record_));
    }
    payload_.assign(bytes_, 0, length);
    if (trace::crc32(payload_, head_crc) !=
        trace::get_u32(std::string_view(bytes_).substr(length))) {
        return damaged();
    }
    return static_cast<trace::Kind>(kind);
}

bool TraceReader::read_header() {
    trace::Cursor in(payload_);
    header_.guest = in.text();
    header_.track = static_cast<Track>(in.number(static_cast<std::uint64_t>(Track::manual)));
    header_.ring_entries = static_cast<std::uint32_t>(in.number(UINT32_MAX));
    header_.vcpus = static_cast<std::uint32_t>(in.number(machine::max_vcpus));
    header_.interval_ns = in.number();
    header_.slots.resize(in.number(max_slots));
    std::uint64_t pages = 0;
    for (Slot& slot : header_.slots) {
        slot.guest_address = in.number();
        slot.pages = in.number(max_pages - pages);
        pages += slot.pages;
    }
    header_.params.resize(in.number(max_params));
    for (auto& [name, value] : header_.params) {
        name = in.text();
        value = in.text();
    }
    const bool rings = header_.track == Track::ring;
    return in.complete() && header_.vcpus != 0 && rings == (header_.ring_entries != 0);
}

bool TraceReader::read_interval(Interval& interval) {
    trace::Cursor in(payload_);
    interval.begin_ns = end_ns_;
    interval.end_ns = end_ns_ + in.number(UINT64_MAX - end_ns_);
    end_ns_ = interval.end_ns;
    interval.everything = in.number(1) != 0;
    interval.harvest_ns = in.number();
    interval.reset_ns = in.number();
    interval.vcpus.assign(header_.vcpus, {});
    for (VcpuFigures& vcpu : interval.vcpus) {
        vcpu.rounds = in.number();
        vcpu.page_writes = in.number();
        if (header_.track == Track::ring) {
            vcpu.entries = in.number();
            vcpu.distinct = in.number();
            vcpu.full_exits = in.number();
            vcpu.overruns = in.number();
            vcpu.lost = in.number();
            vcpu.peak_fill = in.number();
        }
    }
    const std::uint64_t pages = header_.pages();
    interval.spans.resize(in.number(in.left() / 2));  // of which each takes two bytes and more
    std::uint64_t end = 0;
    for (Span& span : interval.spans) {
        span.first = end + in.number(pages - end);
        span.count = in.number(pages - span.first);
        end = span.first + span.count;
        if (span.count == 0) {
            return false;
        }
    }
    return in.complete() && interval.end_ns > interval.begin_ns &&
           (!interval.everything || interval.spans.empty());
}

bool TraceReader::read_outcome() {
    trace::Cursor in(payload_);
    outcome_.ending = static_cast<Ending>(in.number(static_cast<std::uint64_t>(Ending::failed)));
    outcome_.reason = in.text();
    outcome_.vcpus.resize(header_.vcpus);
    for (std::string& vcpu : outcome_.vcpus) {
        vcpu = in.text();
    }
    outcome_.console = in.text();
    return in.complete();
}

Result<TraceReader> TraceReader::open(const std::string& path) {
    std::FILE* const file = std::fopen(path.c_str(), "rbe");
    if (file == nullptr) {
        return fail({errno, fmt::format("read the trace {}", path), {}, {}});
    }
    TraceReader reader(path, file);
    const Result<std::size_t> got = reader.read(trace::magic.size());
    if (!got) {
        return fail(got.error());
    }
    const std::string_view name = trace::magic.substr(0, trace::magic.size() - 1);
    if (!reader.bytes_.starts_with(name)) {
        return reader.refuse("it is not a trace");
    }
    if (reader.bytes_ != trace::magic) {
        return reader.refuse("it has another version of the format than this command, which has 1");
    }
    const Result<trace::Kind> kind = reader.read_record();
    if (!kind) {
        return fail(kind.error());
    }
    if (*kind != trace::Kind::header || !reader.read_header()) {
        return reader.damaged();
    }
    return reader;
}

Result<bool> TraceReader::next(Interval& interval) {
    const Result<trace::Kind> kind = read_record();
    if (!kind) {
        return fail(kind.error());
    }
    if (*kind == trace::Kind::interval) {
        return read_interval(interval) ? Result<bool>(true) : damaged();
    }
    if (*kind != trace::Kind::outcome || end_ns_ == 0 || !read_outcome()) {
        return damaged();
    }
    const Result<std::size_t> more = read(1);
    if (!more) {
        return fail(more.error());
    }
    if (*more != 0) {
        return refuse("something follows its end");
    }
    return false;
}

}  // namespace dirtyring::cli
