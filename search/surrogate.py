"""A Gaussian process over genes that learns which genes matter: fast to fit, and faster to predict in bulk."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from ..search_space.codes import Codes, Rows

Array = NDArray[np.float64]
STEPS, LEARNT_FROM, FITTED_TO = 5, 200, 800


class Features:
    def __init__(self, codes: Codes) -> None:
        self.offsets = np.concatenate([[0], np.cumsum(codes.sizes)])
        hot = int(self.offsets[-1])
        columns, blocks, b = [], [], 0
        def add(cols):
            nonlocal b
            columns.append(np.asarray(cols, float)); blocks.extend([b] * cols.shape[1]); b += 1
        groups: dict = {}
        for i, g in enumerate(codes.genes):
            o, m = self.offsets[i], codes.sizes[i]
            eye = np.zeros((hot, m)); eye[o + np.arange(m), np.arange(m)] = 1
            if not g.nested or m > 2:
                add(eye)
            if g.nested:
                line = np.zeros((hot, 1)); line[o : o + m, 0] = np.arange(1, m + 1) / m
                add(line)
            groups.setdefault((re.sub(r"\d+", "*", g.name), g.options), []).append(i)
        for (_, opts), members in groups.items():
            if len(members) > 1:
                m = len(opts); eye = np.zeros((hot, m)); 
                for i in members: eye[self.offsets[i] + np.arange(m), np.arange(m)] = 1
                add(eye / len(members) ** .5)
                if codes.nested[members[0]]:
                    add((eye * np.arange(1, m + 1) / m).sum(1, keepdims=True) / len(members) ** .5)
        self.map = np.concatenate(columns, 1)
        self.blocks = np.array(blocks); self.n_blocks = b

    def hot(self, rows: Rows) -> Array:
        h = np.zeros((len(rows), self.map.shape[0]), dtype=np.float32)
        at = rows + self.offsets[:-1]
        r, g = np.nonzero(rows >= 0)
        h[r, at[r, g]] = 1
        return h


class Fit:
    """one objective"""
    def __init__(self, features, hot, y, rng, steps=STEPS, heredity=1.0, order=2):
        self.f = features
        n = len(y)
        self.mean_y, self.std_y = y.mean(), max(y.std(), 1e-12)
        t = (y - self.mean_y) / self.std_y
        self.center = hot.mean(0)
        phi = ((hot - self.center) @ features.map.astype(np.float32)).astype(np.float64)
        sub = rng.permutation(n)[:LEARNT_FROM] if n > LEARNT_FROM else np.arange(n)
        p, ts = phi[sub], t[sub]
        var = np.bincount(features.blocks, (p**2).mean(0), features.n_blocks)
        w = 0.5 / max(1, features.n_blocks) / np.maximum(var, 1e-9)
        w = np.where(var > 1e-9, w, 0)
        gamma, s2 = 0.3, 0.05
        eye = np.eye(len(sub))
        self.order = order
        for _ in range(steps):
            E = (p * w[features.blocks]) @ p.T
            q = heredity
            wq = w**q
            E2 = ((p * wq[features.blocks]) @ p.T) if q != 1 else E
            c = np.diag(E2).mean()
            K2 = (E2 / c) ** 2
            inv = np.linalg.inv(E + gamma * K2 + s2 * eye)
            a = inv @ ts
            num = np.bincount(features.blocks, (p.T @ a) ** 2, features.n_blocks)
            den = np.bincount(features.blocks, (p * (inv @ p)).sum(0), features.n_blocks)
            w = w * np.where(den > 1e-12, num / np.maximum(den, 1e-12), 0) ** 0.7
            gamma *= max(1e-3, (a @ K2 @ a) / (inv * K2).sum()) ** 0.7
            s2 = max(1e-5, s2 * ((a @ a) / np.trace(inv)) ** 0.7)
            gamma = min(max(gamma, 1e-3), 10)
        self.w, self.gamma, self.s2, self.c, self.q = w, gamma, s2, c, heredity
        self.phi = phi
        root = np.sqrt(w[features.blocks]); self.root = root
        rq = w[features.blocks] ** (heredity / 2) / c**.5; self.rq = rq
        P1, P2 = phi * root, phi * rq
        self.P1, self.P2 = P1, P2
        K = P1 @ P1.T + gamma * (P2 @ P2.T) ** 2
        K[np.diag_indices(n)] += s2
        self.chol = cho_factor(K, lower=True, check_finite=False)
        self.a = cho_solve(self.chol, t, check_finite=False)
        b1 = features.map @ (root * (P1.T @ self.a))
        M2 = features.map * rq
        quad = M2 @ ((P2 * self.a[:, None]).T @ P2) @ M2.T * gamma
        self.b1, self.quad = b1.astype(np.float32), quad.astype(np.float32)

    def mean(self, hot):
        h = hot - self.center
        return (h @ self.b1 + ((h @ self.quad) * h).sum(1)) * self.std_y + self.mean_y

    def cov(self, hot):
        phi = ((hot - self.center) @ self.f.map).astype(np.float64)
        P1, P2 = phi * self.root, phi * self.rq
        k = self.P1 @ P1.T + self.gamma * (self.P2 @ P2.T) ** 2
        v = solve_triangular(self.chol[0], k, lower=True, check_finite=False)
        prior = P1 @ P1.T + self.gamma * (P2 @ P2.T) ** 2
        return (prior - v.T @ v) * self.std_y**2
