// SPDX-License-Identifier: Apache-2.0
//! Keeps the tables as the plans say.
