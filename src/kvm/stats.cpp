// SPDX-License-Identifier: MIT
#include "dirtyring/kvm/stats.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "../sys.hpp"
#include "dirtyring/kvm/abi.hpp"

namespace dirtyring::kvm {

namespace {

// Far above what kernels have (48, some dozens, some KiB), far below what would hurt: a descriptor
// of something else must not make this library ask for gigabytes.
constexpr std::uint32_t most_name_bytes = 4096;
constexpr std::uint32_t most_descriptors = 4096;
constexpr std::size_t most_data_bytes = std::size_t{1} << 20;

Error not_statistics() {
    return {EINVAL, "Stats::adopt", "this is no descriptor of KVM statistics",
            "give what Vm::get_stats_fd or Vcpu::get_stats_fd gave"};
}

Result<void> read_all(const Fd& fd, std::span<std::byte> to, long offset) {
    std::size_t done = 0;
    while (done < to.size()) {
        const long count = sys::pread(fd.get(), to.data() + done, to.size() - done,
                                      offset + static_cast<long>(done));
        if (count < 0) {
            return fail({static_cast<int>(-count), "pread(KVM statistics)", {}, {}});
        }
        if (count == 0) {
            return fail(not_statistics());
        }
        done += static_cast<std::size_t>(count);
    }
    return {};
}

// The text at `at`, which need not end with a NUL.
std::string text(std::span<const std::byte> at) {
    std::string copy(at.size(), '\0');
    std::memcpy(copy.data(), at.data(), at.size());
    copy.resize(std::min(copy.find('\0'), copy.size()));
    return copy;
}

}  // namespace

Result<Stats> Stats::adopt(Fd fd) {
    Stats stats(std::move(fd));
    kvm_stats_header header{};
    if (Result<void> done = read_all(stats.fd_, std::as_writable_bytes(std::span(&header, 1)), 0);
        !done) {
        return fail(std::move(done.error()));
    }
    if (header.name_size == 0 || header.name_size > most_name_bytes ||
        header.num_desc > most_descriptors) {
        return fail(not_statistics());
    }
    std::vector<std::byte> id(header.name_size);
    if (Result<void> done = read_all(stats.fd_, id, header.id_offset); !done) {
        return fail(std::move(done.error()));
    }
    stats.id_ = text(id);

    const std::size_t stride = sizeof(abi::StatsDescriptor) + header.name_size;
    std::vector<std::byte> descriptors(header.num_desc * stride);
    if (Result<void> done = read_all(stats.fd_, descriptors, header.desc_offset); !done) {
        return fail(std::move(done.error()));
    }
    std::size_t data_bytes = 0;
    for (std::span<const std::byte> rest = descriptors; !rest.empty();
         rest = rest.subspan(stride)) {
        abi::StatsDescriptor descriptor{};
        std::memcpy(&descriptor, rest.data(), sizeof descriptor);
        const std::uint32_t flags = descriptor.flags;
        const bool binary = (flags & KVM_STATS_BASE_MASK) == KVM_STATS_BASE_POW2;
        stats.statistics_.push_back(
            {.name = text(rest.first(stride).subspan(sizeof descriptor)),
             .type = static_cast<StatisticType>(flags & KVM_STATS_TYPE_MASK),
             .unit =
                 static_cast<StatisticUnit>((flags & KVM_STATS_UNIT_MASK) >> KVM_STATS_UNIT_SHIFT),
             .base = binary ? 2 : 10,
             .exponent = descriptor.exponent,
             .bucket_size = descriptor.bucket_size,
             .values = std::vector<std::uint64_t>(descriptor.size)});
        stats.offsets_.push_back(descriptor.offset);
        data_bytes = std::max(
            data_bytes, descriptor.offset + std::size_t{descriptor.size} * sizeof(std::uint64_t));
    }
    if (data_bytes > most_data_bytes) {
        return fail(not_statistics());
    }
    stats.data_offset_ = header.data_offset;
    stats.data_.resize(data_bytes);
    return stats;
}

Result<std::span<const Statistic>> Stats::read() {
    if (Result<void> done = read_all(fd_, data_, data_offset_); !done) {
        return fail(std::move(done.error()));
    }
    for (std::size_t i = 0; i < statistics_.size(); ++i) {
        const std::span<std::byte> values =
            std::as_writable_bytes(std::span(statistics_[i].values));
        std::copy_n(data_.begin() + static_cast<std::ptrdiff_t>(offsets_[i]), values.size(),
                    values.begin());
    }
    return statistics_;
}

const Statistic* Stats::find(std::string_view name) const noexcept {
    for (const Statistic& statistic : statistics_) {
        if (statistic.name == name) {
            return &statistic;
        }
    }
    return nullptr;
}

}  // namespace dirtyring::kvm
