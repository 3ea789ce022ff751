"""The names of recipes, pieces and controllers in other libraries. It loads nothing.

A name stands beside the nearest of ours. A library's own curve, where its drop-in is in
``jaxsched.compat``, may differ from it: after the end, at a boundary, by the rounding of a length.
"""

from __future__ import annotations

# Ours -> theirs, "library.name". Where we have an operator or a function in place of a name, that.
ELSEWHERE = {
    "Bounce": "abel_pytorch.ABEL",
    "Clip": "t5x.min_learning_rate jnp.maximum jnp.minimum jnp.clip",
    "Constant": "fastai.SchedNo fvcore.ConstantParamScheduler",
    "Cosine": "torch.CosineAnnealingLR torch.SWALR keras.CosineDecay optax.cosine_decay_schedule "
    "composer.CosineAnnealingScheduler fastai.SchedCos fvcore.CosineParamScheduler "
    "praxis.Cosine timm.CosineLRScheduler paddle.CosineAnnealingDecay",
    "Exponential": "fvcore.ExponentialParamScheduler paddle.NaturalExpDecay",
    "Geometric": "fastai.SchedExp axlearn.exponential praxis.Exponential fairseq.tri_stage",
    "Greedy": "transformers.greedy transformers.GreedyLR",
    "HalfCosine": "olmo_core.HalfCosWithWarmup",
    "Harmonic": "levanter.inv",
    "InverseSqrt": "big_vision.rsqrt t5x.rsqrt_decay scenic.rsqrt_decay "
    "transformers.get_adafactor_schedule",
    "InverseTime": "keras.InverseTimeDecay paddle.InverseTimeDecay",
    "Linear": "torch.LinearLR optax.linear_schedule composer.LinearScheduler fastai.SchedLin "
    "fvcore.LinearParamScheduler praxis.Linear t5x.linear_decay mmengine.LinearLR "
    "paddle.LinearLR megatron.wd_incr_style",
    "Maximum": "olmo.MaxScheduler jnp.maximum",
    "Minimum": "jnp.minimum",
    "MirrorCosine": "epfl.miror_cosine",
    "MonotoneCubic": "init2winit.twopointsspline optlrschedule.twopointsspline scipy.PCHIP",
    "NewBob": "speechbrain.NewBobScheduler",
    "PiecewiseConstant": "optax.piecewise_constant_schedule keras.PiecewiseConstantDecay "
    "fvcore.MultiStepParamScheduler praxis.PiecewiseConstant paddle.PiecewiseDecay",
    "PiecewiseCosine": "optax.piecewise_interpolate_schedule",
    "PiecewiseLinear": "optax.piecewise_interpolate_schedule scenic.piecewise_linear "
    "ignite.PiecewiseLinear init2winit.twopointslinear",
    "Plateau": "torch.ReduceLROnPlateau keras.ReduceLROnPlateau optax.reduce_on_plateau "
    "transformers.reduce_lr_on_plateau timm.PlateauLRScheduler nemo.ReduceLROnPlateau "
    "mmengine.ReduceOnPlateauLR ignite.ReduceLROnPlateauScheduler paddle.ReduceOnPlateau "
    "allennlp.reduce_on_plateau fairseq.reduce_lr_on_plateau",
    "Paced": "megatron.lr_decay_samples composer.Time olmo_core.SchedulerUnits",
    "Polynomial": "torch.PolynomialLR optax.polynomial_schedule keras.PolynomialDecay "
    "composer.PolynomialScheduler timm.PolyLRScheduler fvcore.PolynomialDecayParamScheduler "
    "mmengine.PolyLR paddle.PolynomialDecay axlearn.polynomial",
    "PowerLaw": "olmo_core.PowerLR tf_models.DirectPowerDecay pytorch_scheduler.power_decay",
    "Product": "torch.ChainedScheduler",
    "QuarterCosine": "torch_schedule_anything.cosine_annealing_with_warmup",
    "RAdamWarmup": "pytorch_warmup.RAdamWarmup",
    "Repeat": "ignite.LinearCyclicalScheduler ignite.CosineAnnealingScheduler t5x.cosine_decay",
    "Rex": "init2winit.rex kozistr.REXScheduler pytorch_scheduler.rex",
    "Sequence": "torch.SequentialLR optax.join_schedules optax.sgdr_schedule "
    "fastai.combine_scheds fvcore.CompositeParamScheduler axlearn.stepwise "
    "praxis.PiecewiseSchedule ignite.ConcatScheduler lrsched.sequential olmo_core.Composable",
    "Shift": "t5x.step_offset praxis.DelayedCosine tf_models.WithOffset",
    "ShiftedExponential": "ibm.exponential",
    "Silver": "pepit.silver",
    "Sqrt": "megatron.minus_sqrt nemo.SquareRootAnnealing",
    "Stretch": "composer.scale_schedule_ratio init2winit.schedule_stretcher",
    "Table": "torch.MultiplicativeLR fvcore.StepParamScheduler lrsched.sample",
    "Tanh": "timm.TanhLRScheduler pytorch_scheduler.tanh_decay",
    "Warp": "timm.k_decay pytorch_scheduler.k_decay fastai.SchedPoly",
    "Window": "mmengine.begin_end",
    "constant": "torch.ConstantLR optax.constant_schedule transformers.constant "
    "composer.ConstantScheduler levanter.constant t5x.constant axlearn.constant",
    "cooldown_from": "big_vision.cooldown scenic.linear_cooldown levanter.cooldown "
    "llm_foundry.InverseSquareRootWithWarmupScheduler olmo_core.CosWithWarmupAndLinearDecay "
    "olmo_core.OverrideDecay",
    "cosine_decay": "torch.CosineAnnealingLR optax.cosine_decay_schedule keras.CosineDecay "
    "composer.CosineAnnealingScheduler timm.CosineLRScheduler levanter.cosine big_vision.cosine "
    "lrsched.cosine cosine_annealing",
    "exponential_decay": "torch.ExponentialLR optax.exponential_decay keras.ExponentialDecay "
    "composer.ExponentialScheduler mmengine.ExponentialLR paddle.ExponentialDecay "
    "nemo.ExponentialLR allennlp.exponential",
    "exponential_growth": "olmo_core.ExponentialScheduler",
    "flat_cosine": "fastai.fit_flat_cos pytorch_scheduler.flat_cosine",
    "infinite": "infinite_lr.InfiniteLRScheduler",
    "inverse_sqrt": "transformers.inverse_sqrt megatron.inverse_square_root levanter.inv_sqrt "
    "fairseq.inverse_sqrt nemo.InverseSquareRootAnnealing olmo_core.InvSqrtWithWarmup "
    "t5x.rsqrt_normalized_decay lrsched.inverse_sqrt",
    "linear_decay": "optax.linear_schedule levanter.linear big_vision.linear",
    "multi_step": "torch.MultiStepLR composer.MultiStepScheduler timm.MultiStepLRScheduler "
    "optax.piecewise_constant_schedule mmengine.MultiStepLR paddle.MultiStepDecay "
    "allennlp.multi_step mxnet.MultiFactorScheduler",
    "noam": "tensor2tensor.noam nemo.NoamAnnealing paddle.NoamDecay speechbrain.NoamScheduler "
    "praxis.Transformer allennlp.noam init2winit.transformer_schedule nemo.NoamHoldAnnealing",
    "one_cycle": "torch.OneCycleLR optax.cosine_onecycle_schedule optax.linear_onecycle_schedule "
    "fastai.fit_one_cycle deepspeed.OneCycle mmengine.OneCycleLR paddle.OneCycleLR",
    "one_cycle_momentum": "torch.OneCycleLR_momentum",
    "piecewise_constant": "optax.piecewise_constant_schedule keras.PiecewiseConstantDecay "
    "fvcore.MultiStepParamScheduler scenic.piecewise_constant big_vision.stair",
    "polynomial_decay": "torch.PolynomialLR keras.PolynomialDecay fairseq.polynomial_decay "
    "big_vision.polynomial allennlp.polynomial_decay poly nemo.PolynomialHoldDecayAnnealing",
    "power_scheduler": "levanter.power ibm.power",
    "share": "composer.dur",
    "silver": "pepit.silver",
    "slanted_triangular": "allennlp.slanted_triangular pytorch_scheduler.slanted_triangular",
    "step_decay": "torch.StepLR timm.StepLRScheduler composer.StepScheduler paddle.StepDecay "
    "mmengine.StepLR fairseq.step allennlp.step mxnet.FactorScheduler "
    "fvcore.StepWithFixedGammaParamScheduler",
    "tri_stage": "fairseq.tri_stage speechbrain.TriStageLRSchedule",
    "triangular": "torch.CyclicLR nemo.CyclicLR fairseq.triangular speechbrain.CyclicLRScheduler "
    "paddle.CyclicLR lrsched.triangular",
    "triangular_exp": "torch.CyclicLR lrsched.exp_range",
    "warm_restarts": "torch.CosineAnnealingWarmRestarts keras.CosineDecayRestarts "
    "transformers.cosine_with_restarts composer.CosineAnnealingWarmRestartsScheduler "
    "timm.CosineLRScheduler fastai.fit_sgdr optax.sgdr_schedule fairseq.cosine "
    "CosineAnnealingWarmupRestarts mmengine.CosineRestartLR lrsched.cosine_restarts "
    "allennlp.cosine",
    "warmup_constant": "transformers.constant_with_warmup optax.warmup_constant_schedule "
    "composer.ConstantWithWarmupScheduler megatron.constant olmo_core.ConstantWithWarmup "
    "nemo.WarmupPolicy axlearn.constant_with_linear_warmup",
    "warmup_cosine": "optax.warmup_cosine_decay_schedule transformers.cosine "
    "transformers.get_cosine_schedule_with_warmup transformers.cosine_with_min_lr "
    "transformers.cosine_warmup_with_min_lr keras.CosineDecay "
    "composer.CosineAnnealingWithWarmupScheduler megatron.cosine olmo_core.CosWithWarmup "
    "nemo.CosineAnnealing pl_bolts.LinearWarmupCosineAnnealingLR "
    "axlearn.cosine_with_linear_warmup pytorch_scheduler.cosine_with_warmup",
    "warmup_exponential": "optax.warmup_exponential_decay_schedule "
    "praxis.LinearRampupExponentialDecay speechbrain.WarmAndExpDecayLRSchedule",
    "warmup_linear": "transformers.linear transformers.get_linear_schedule_with_warmup "
    "composer.LinearWithWarmupScheduler megatron.linear olmo_core.LinearWithWarmup "
    "nemo.WarmupAnnealing torchtitan.linear allennlp.linear_with_warmup",
    "warmup_polynomial": "transformers.polynomial "
    "transformers.get_polynomial_decay_schedule_with_warmup "
    "composer.PolynomialWithWarmupScheduler nemo.PolynomialDecayAnnealing",
    "with_warmup": "warmup pytorch_warmup.LinearWarmup pytorch_scheduler.WarmupScheduler "
    "warmup_scheduler.GradualWarmupScheduler lrsched.with_warmup paddle.LinearWarmup "
    "ignite.create_lr_scheduler_with_warmup composer.MultiStepWithWarmupScheduler",
    "wsd": "transformers.warmup_stable_decay timm.WSDLRScheduler megatron.WSD maxtext.wsd "
    "kozistr.warmup_stable_decay pytorch_scheduler.trapezoidal trapezoid trapezoidal "
    "lrsched.warmup_stable_decay olmo_core.WSD nemo.WarmupHoldPolicy WarmupStableDecay",
    "wsd_s": "olmo_core.WSDS levanter.cycles",
}
# Ours that a text cannot name, and theirs for it.
OTHERWISE = {
    "a >> b": "torch.SequentialLR optax.join_schedules chain",
    "a * b": "torch.ChainedScheduler",
    "js.Linear(factor, 1.0, warmup) * schedule": "fvcore.WarmupParamScheduler "
    "detectron2.WarmupMultiStepLR detectron2.WarmupCosineLR",
    # DeepSpeed's names, unless their `warmup_type` is "linear".
    "js.Logarithmic(0.0, peak, warmup - 1)": "deepspeed.WarmupLR",
    "js.Logarithmic(0.0, peak, warmup - 1) >> js.Constant(peak, 1) >> "
    "js.Linear(peak, 0.0, steps - warmup)": "deepspeed.WarmupDecayLR",
    "js.Logarithmic(0.0, peak, warmup - 1) >> js.Cosine(peak, end, steps - warmup)": "deepspeed."
    "WarmupCosineLR",
    "js.from_fn": "torch.LambdaLR keras.LearningRateScheduler paddle.LambdaDecay",
    "js.range_test": "fastai.lr_find fastai.LRFinder lr_finder torch_lr_finder.LRFinder "
    "deepspeed.LRRangeTest ignite.FastaiLRFinder",
    "js.inject": "optax.inject_hyperparams optax.WrappedSchedule",
    "js.Average": "torch.AveragedModel torch.SWALR keras.SWA optax.schedule_free",
    "js.Units": "composer.Time megatron.rampup_batch_size olmo_core.BatchSizeScheduler "
    "ignite.BatchSizeScheduler",
    "transformers.get_scheduler": "transformers.SchedulerType transformers.TrainingArguments",
    "timm.CosineLRScheduler": "timm.create_scheduler timm.create_scheduler_v2",
    "js.compat.megatron.rampup_batch_size": "megatron.rampup_batch_size",
    "{min: ..., max: ...} in a sweep": "hydra.interval ray.uniform optuna.suggest_float",
    "{min: ..., max: ..., distribution: log_uniform_values} in a sweep": "ray.loguniform",
    "{values: [...]} in a sweep": "hydra.choice ray.grid_search optuna.suggest_categorical",
    "js.Reverse": "reverse",
}
# Other names of a drop-in in its library.
ALIASES = {
    "composer.constant_with_warmup": "composer.ConstantWithWarmupScheduler",
    "composer.cosine_with_warmup": "composer.CosineAnnealingWithWarmupScheduler",
    "composer.linear_decay_with_warmup": "composer.LinearWithWarmupScheduler",
    "fvcore.composite": "fvcore.CompositeParamScheduler",  # as ClassyVision has them
    "fvcore.cosine": "fvcore.CosineParamScheduler",
    "fvcore.linear": "fvcore.LinearParamScheduler",
    "fvcore.multistep": "fvcore.MultiStepParamScheduler",
    "timm.cosine": "timm.CosineLRScheduler",
    "timm.multistep": "timm.MultiStepLRScheduler",
    "timm.plateau": "timm.PlateauLRScheduler",
    "timm.poly": "timm.PolyLRScheduler",
    "timm.step": "timm.StepLRScheduler",
    "timm.tanh": "timm.TanhLRScheduler",
    "transformers.AdafactorSchedule": "transformers.get_adafactor_schedule",
    "transformers.get_constant_schedule": "transformers.constant",
    "transformers.get_constant_schedule_with_warmup": "transformers.constant_with_warmup",
    "transformers.get_cosine_schedule_with_warmup": "transformers.cosine",
    "transformers.get_cosine_with_hard_restarts_schedule_with_warmup": "transformers."
    "cosine_with_restarts",
    "transformers.get_cosine_with_min_lr_schedule_with_warmup": "transformers.cosine_with_min_lr",
    "transformers.get_cosine_with_min_lr_schedule_with_warmup_lr_rate": "transformers."
    "cosine_warmup_with_min_lr",
    "transformers.get_greedy_schedule": "transformers.greedy",
    "transformers.get_inverse_sqrt_schedule": "transformers.inverse_sqrt",
    "transformers.get_linear_schedule_with_warmup": "transformers.linear",
    "transformers.get_polynomial_decay_schedule_with_warmup": "transformers.polynomial",
    "transformers.get_reduce_on_plateau_schedule": "transformers.reduce_lr_on_plateau",
    "transformers.get_wsd_schedule": "transformers.warmup_stable_decay",
}
