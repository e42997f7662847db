"""Guided (prototype)."""
from dataclasses import dataclass
import numpy as np
import moocore
from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function
from ...search_space.codes import Codes
from ..draws import unseen
from ..pareto import ranks
from ..surrogate import Features, Fit

CD = get_crowding_function("cd")

def stratified(codes, n, rng):
    t = (np.arange(n) + rng.random(n)) / n
    s = codes.sizes
    spread = rng.random((n, 1)) * .5
    u = np.clip(t[:, None] + spread * rng.standard_normal((n, len(s))), 0, .999999)
    v = rng.random((n, len(s)))
    return np.floor(np.where(codes.nested, u, v) * s).astype(np.int64)

def truncate(F, n):
    r = ranks(F)
    crowd = np.zeros(len(F))
    last = np.sort(r)[min(n, len(r)) - 1]
    m = np.flatnonzero(r == last)
    crowd[m] = CD.do(F[m])
    return np.lexsort((-crowd, r))[:n]

def gain2(front, ref, C):
    f = front[(front < ref).all(1)]
    if len(f):
        f = f[np.lexsort((f[:,1], f[:,0]))]; y = np.minimum.accumulate(f[:,1])
        keep = np.r_[True, y[1:] < y[:-1]]; f = f[keep]
    x = np.r_[-np.inf, f[:, 0], ref[0]]; y = np.r_[ref[1], f[:, 1]]
    w = np.maximum(0, x[1:][None] - np.maximum(x[:-1][None], C[:, :1]))
    w = np.maximum(0, np.minimum(x[1:],ref[0])[None] - np.maximum(x[:-1][None], C[:, :1]))
    return (w * np.maximum(0, y[None] - C[:, 1:2])).sum(1)

@dataclass(frozen=True)
class Guided:
    batch: int = 20
    initial: int = 20
    pop: int = 100
    gens: int = 25
    kappa: float = 0.5
    ts: bool = True
    heredity: float = 1.0
    steps: int = 5
    mut: float = 1.5
    warp: str = "none"
    name: str = "guided"

    def ask(self, space, evaluations, n, rng):
        codes = Codes(space)
        seen = {e.architecture for e in evaluations}
        good = [e for e in evaluations if not e.failed]
        picked = {}
        def take(rows, k):
            for r in rows:
                if len(picked) >= k: break
                a = codes.architecture(r, rng)
                if a not in seen and a not in picked and space.allows(a): picked[a] = None
        if len(evaluations) < self.initial:
            if not evaluations:
                for a in (space.largest, space.smallest): picked[a] = None
            take(stratified(codes, n - len(picked), rng), n)
        elif len(good) > 3:
            take(self.propose(codes, good, n, rng), n)
        out = list(picked)[:n]
        return out + unseen(space, seen.union(out), n - len(out), rng)

    def propose(self, codes, good, n, rng):
        rows = codes.rows([e.architecture for e in good])
        F = np.array([e.losses for e in good])
        X = codes.canonical(rows)
        feats = Features(codes)
        hot = feats.hot(rows)
        T = F.copy()
        if self.warp == "log":
            lo = F.min(0); rg = np.ptp(F, 0); T = np.log((F - lo) / rg + .3)
            F = T
        fits = [Fit(feats, hot, T[:, j], rng, self.steps, self.heredity) for j in range(T.shape[1])]
        s = codes.sizes
        latent = np.where(rows < 0, np.floor(rng.random(rows.shape) * s).astype(int), rows)
        key = rng.integers(1, 2**62, len(s))
        known = rows @ key
        # parents: best evaluated
        par = latent[truncate(F, self.pop)]
        P = par; PF = F[truncate(F, self.pop)]
        PF = np.stack([f.mean(feats.hot(codes.canonical(P))) for f in fits], 1)
        for g in range(self.gens):
            a = rng.integers(len(P), size=self.pop); b = rng.integers(len(P), size=self.pop)
            cross = (rng.random((self.pop, len(s))) < .5) & (rng.random((self.pop, 1)) < .5)
            C = np.where(cross, P[b], P[a])
            rate = self.mut / len(s)
            flip = rng.random(C.shape) < rate
            flip[np.arange(self.pop), rng.integers(len(s), size=self.pop)] = True
            step = C + rng.choice([-1, 1], C.shape)
            other = (C + 1 + np.floor(rng.random(C.shape) * (s - 1)).astype(int)) % s
            step = np.where((step < 0) | (step >= s), other, step)
            new = np.where(codes.nested & (rng.random(C.shape) < .5), step, other)
            C = np.where(flip, new, C)
            CF = np.stack([f.mean(feats.hot(codes.canonical(C))) for f in fits], 1)
            P = np.concatenate([P, C]); PF = np.concatenate([PF, CF])
            _, i = np.unique(codes.canonical(P) @ key, return_index=True)
            P, PF = P[i], PF[i]
            k = truncate(PF, self.pop); P, PF = P[k], PF[k]
        can = codes.canonical(P)
        new = ~np.isin(can @ key, known)
        # mutants near too: candidates
        cand, mu = can[new], PF[new]
        if len(cand) == 0: return cand
        h = feats.hot(cand)
        front = F[ranks(F) == 0]
        lo, hi = front.min(0), front.max(0)
        ref = hi + .1 * (hi - lo)
        covs = [f.cov(h) for f in fits]
        if self.ts:
            L = [np.linalg.cholesky(c + 1e-9 * np.trace(c) / len(c) * np.eye(len(c)) + 1e-12 * np.eye(len(c))) for c in covs]
        sd = np.stack([np.sqrt(np.maximum(np.diag(c), 1e-12)) for c in covs], 1)
        order = []
        cur = front
        for _ in range(min(n, len(cand))):
            if self.ts:
                V = np.stack([mu[:, j] + self.kappa * (L[j] @ rng.standard_normal(len(cand))) for j in range(len(covs))], 1)
            else:
                V = mu - self.kappa * sd
            gain = gain2(cur, ref, V)
            gain[order] = -1
            k = int(gain.argmax())
            if gain[k] <= 0:
                rest = [i for i in rng.permutation(len(cand)) if i not in order]
                k = rest[0]
            order.append(k)
            cur = np.concatenate([cur, V[k:k+1]])
        return np.concatenate([cand[order], np.delete(cand, order, 0)])

ALGORITHM = Guided()
