// SPDX-License-Identifier: MIT
//
// All of dirtyring: which pages of a running KVM guest have changed.
#pragma once

#include "dirtyring/dirty_log.hpp"
#include "dirtyring/dirty_set.hpp"
#include "dirtyring/error.hpp"
#include "dirtyring/harvest.hpp"
#include "dirtyring/kvm/device.hpp"
#include "dirtyring/kvm/run.hpp"
#include "dirtyring/kvm/stats.hpp"
#include "dirtyring/kvm/system.hpp"
#include "dirtyring/kvm/vcpu.hpp"
#include "dirtyring/kvm/vm.hpp"
#include "dirtyring/measure.hpp"
#include "dirtyring/memory.hpp"
#include "dirtyring/page_set.hpp"
#include "dirtyring/pages.hpp"
#include "dirtyring/pause.hpp"
#include "dirtyring/probe.hpp"
#include "dirtyring/ring.hpp"
#include "dirtyring/source/bitmap_source.hpp"
#include "dirtyring/source/make_source.hpp"
#include "dirtyring/source/ring_source.hpp"
#include "dirtyring/source/source.hpp"
#include "dirtyring/statistics.hpp"
#include "dirtyring/throttle.hpp"
#include "dirtyring/tracker.hpp"
