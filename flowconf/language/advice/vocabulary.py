"""The vocabulary of other tools: PyTorch, Lightning, Keras, Hugging Face, Ultralytics, MMEngine, Hydra.

This is data only. In tables of the form name of flowconf -> words of others, words are separated by spaces. Names are
written in lower case without `_`, package, and the endings in `ENDINGS`; keys of a config as they are.
"""

from __future__ import annotations

ENDINGS = {
    "loss": ("loss",),
    "metric": ("metric",),
    "optimizer": ("optimizer", "optim"),
    "schedule": ("scheduler", "schedule", "lr"),
    "data set": ("dataset",),
    "logger": ("logger",),
}
"""Endings of names by their kind, which make no difference."""

NAMES: dict[str, dict[str, str]] = {
    "loss": {
        "cross_entropy": "ce categoricalcrossentropy sparsecategoricalcrossentropy softmaxcrossentropy "
        "softmaxcrossentropywithlogits labelsmoothingcrossentropy softtargetcrossentropy",
        "nll": "negativeloglikelihood",
        "bce_with_logits": "bcelogits binarycrossentropywithlogits sigmoidcrossentropy "
        "sigmoidcrossentropywithlogits multilabelsoftmargin",
        "bce": "binarycrossentropy",
        "mse": "meansquarederror squarederror l2",
        "l1": "meanabsoluteerror absoluteerror mae",
        "kl_div": "kl kldivergence kullbackleibler kullbackleiblerdivergence",
        "poisson_nll": "poisson",
        "gaussian_nll": "gaussian",
        "cosine": "cosinesimilarity cosineembedding cosinedistance cosineproximity",
    },
    "metric": {
        "accuracy": "acc accuracyscore categoricalaccuracy sparsecategoricalaccuracy binaryaccuracy top1 top1accuracy",
        "exact": "exactmatch",
        "mse": "l2",
        "MeanAbsolutePercentageError": "mape",
        "F1Score": "f1 fscore fmeasure",
        "Precision": "precisionscore",
        "Recall": "recallscore sensitivity truepositiverate",
        "Specificity": "truenegativerate",
        "AUROC": "auc rocauc rocaucscore aurocscore",
        "AveragePrecision": "ap averageprecisionscore prauc auprc",
        "JaccardIndex": "iou miou meaniou jaccard jaccardscore",
        "CohenKappa": "kappa cohenkappascore",
        "MatthewsCorrCoef": "mcc",
        "PearsonCorrCoef": "pearson pearsonr",
        "SpearmanCorrCoef": "spearman spearmanr",
        "R2Score": "r2",
        "PeakSignalNoiseRatio": "psnr",
        "StructuralSimilarityIndexMeasure": "ssim",
        "BLEUScore": "bleu",
        "WordErrorRate": "wer",
        "CharErrorRate": "cer",
    },
    "optimizer": {
        "adamw": "adamwtorch adamwtorchfused adamwhf adamw8bit adamwbnb8bit pagedadamw32bit pagedadamw8bit",
        "sgd": "momentum nesterov stochasticgradientdescent",
    },
    "schedule": {
        "cosine": "cos cosineannealing cosinedecay cosinewithwarmup cosinewarmup warmupcosine cosineannealingwarmup "
        "linearwarmupcosineannealing getcosineschedulewithwarmup",
        "linear": "linearwithwarmup linearwarmup warmuplinear lineardecay getlinearschedulewithwarmup",
        "constant": "constantwithwarmup fixed none getconstantschedulewithwarmup",
        "exponential": "exponentialdecay exp",
        "warm_restarts": "cosineannealingwarmrestarts cosinerestarts cosinewithrestarts cosinedecayrestarts sgdr "
        "cosinewithhardrestarts getcosinewithhardrestartsschedulewithwarmup",
        "plateau": "reducelronplateau reduceonplateau",
        "polynomial": "poly polynomialdecay getpolynomialdecayschedulewithwarmup",
        "one_cycle": "1cycle superconvergence",
        "steps": "step multistep stepdecay piecewiseconstant piecewiseconstantdecay",
    },
    "data set": {
        "images": "imagefolder imagedatasetfromdirectory imageclassification",
        "idx": "mnist fashionmnist kmnist qmnist emnist",
        "text": "textdatasetfromdirectory textfile tinyshakespeare",
        "arrays": "tensor numpy npz npy",
        "digits": "loaddigits sklearndigits",
        "synthetic": "fakedata fake makeclassification makeblobs",
    },
    "logger": {"wandb": "weightsandbiases wb"},
    "initial value": {
        "kaiming_normal": "henormal",
        "kaiming_uniform": "heuniform",
        "xavier_normal": "glorotnormal",
        "xavier_uniform": "glorotuniform",
        "normal": "gaussian randn randomnormal",
        "zeros": "zero",
        "ones": "one",
    },
}
"""The kind of a table -> name -> what other tools call it."""

ADVICE: dict[str, dict[str, str]] = {
    "metric": {
        "rmse": "write `MeanSquaredError`, and `args: {squared: false}`",
        "rootmeansquarederror": "write `MeanSquaredError`, and `args: {squared: false}`",
        "top5": "write `accuracy`, and `args: {top: 5}`",
        "top5accuracy": "write `accuracy`, and `args: {top: 5}`",
        "topkcategoricalaccuracy": "write `accuracy`, and `args: {top: 5}`",
        "loss": "remove it: every term of `loss` is reported",
    },
    "callback": {
        "earlystopping": "remove it, and write `patience: 3` under `trainer`",
        "modelcheckpoint": "remove it: the best and the last weights are kept; `keep` of `trainer` keeps more",
        "learningratemonitor": "remove it: learning rates are logged",
        "lrmonitor": "remove it: learning rates are logged",
        "tensorboard": "remove it: TensorBoard events are written by default (`trainer.tensorboard`)",
        "csvlogger": "remove it: the values of each evaluation are in the run folder",
        "reducelronplateau": "remove it, and write `schedule: {name: plateau}`",
        "learningratescheduler": "remove it, and write a `schedule`",
        "stochasticweightaveraging": "remove it, and write `ema: 0.999` under `trainer`",
        "tqdmprogressbar": "remove it: progress is shown by default (`trainer.progress`)",
        "richprogressbar": "remove it: progress is shown by default (`trainer.progress`)",
    },
    "logger": {
        "tensorboard": "remove it: TensorBoard events are written by default (`trainer.tensorboard`)",
        "csv": "remove it: the values of each evaluation are in the run folder",
    },
}
"""The kind of a table -> a name of other tools -> the advice, where a name alone is not the answer."""

ABSENT = {
    "loss": "focal sigmoidfocal dice tversky iou giou triplet tripletmargin contrastive infonce ntxent ctc hinge "
    "marginranking multimargin softmargin lpips perceptual arcface wasserstein quantile pinball logcosh",
    "metric": "dice dicescore map meanaverageprecision map50 fid",
    "optimizer": "lion lamb lars adabelief sophia shampoo adan ftrl",
    "schedule": "inversesqrt sequential chained lambda multiplicative",
    "data set": "cifar10 cifar100 svhn coco voc imagenet celeba stl10 imdb wikitext parquet csv web",
    "logger": "comet neptune clearml aim dvclive",
}
"""The kind of a table -> well-known names without an equivalent, whose nearest name means something else."""

CALLS = {
    "Dense(units, activation, use_bias)": "Linear(_, units, bias=use_bias)",
    "FC(units)": "Linear(_, units)",
    "FullyConnected(units)": "Linear(_, units)",
    "Conv1D(filters, kernel_size, strides, padding)": "Conv1d(_, filters, kernel_size, stride=strides, "
    "padding=padding)",
    "Conv2D(filters, kernel_size, strides, padding)": "Conv2d(_, filters, kernel_size, stride=strides, "
    "padding=padding)",
    "Conv3D(filters, kernel_size, strides, padding)": "Conv3d(_, filters, kernel_size, stride=strides, "
    "padding=padding)",
    "Convolution2D(filters, kernel_size, strides, padding)": "Conv2d(_, filters, kernel_size, stride=strides, "
    "padding=padding)",
    "Conv1DTranspose(filters, kernel_size, strides)": "ConvTranspose1d(_, filters, kernel_size, stride=strides)",
    "Conv2DTranspose(filters, kernel_size, strides)": "ConvTranspose2d(_, filters, kernel_size, stride=strides)",
    "MaxPooling1D(pool_size=2, strides)": "MaxPool1d(pool_size, stride=strides)",
    "MaxPooling2D(pool_size=2, strides)": "MaxPool2d(pool_size, stride=strides)",
    "MaxPool2D(pool_size=2, strides)": "MaxPool2d(pool_size, stride=strides)",
    "AveragePooling1D(pool_size=2, strides)": "AvgPool1d(pool_size, stride=strides)",
    "AveragePooling2D(pool_size=2, strides)": "AvgPool2d(pool_size, stride=strides)",
    "GlobalAveragePooling1D()": "AdaptiveAvgPool1d(1) >> Flatten",
    "GlobalAveragePooling2D()": "AdaptiveAvgPool2d(1) >> Flatten",
    "GlobalAvgPool2D()": "AdaptiveAvgPool2d(1) >> Flatten",
    "GlobalMaxPooling2D()": "AdaptiveMaxPool2d(1) >> Flatten",
    "LayerNormalization()": "LayerNorm(_)",
    "GroupNormalization(groups=32)": "GroupNorm(groups, _)",
    "SpatialDropout1D(rate)": "Dropout1d(rate)",
    "SpatialDropout2D(rate)": "Dropout2d(rate)",
    "ZeroPadding2D(padding=1)": "ZeroPad2d(padding)",
    "UpSampling2D(size=2)": "Upsample(scale_factor=size)",
    "Activation(activation)": "activation",
    "Swish()": "SiLU",
}
"""A call of other tools -> the call to write, in which arguments that are not given are left out."""

MODULES = {
    "attention": "MultiheadAttention",
    "multiheadselfattention": "MultiheadAttention",
    "selfattention": "MultiheadAttention",
    "view": "Reshape",
    "unsqueeze": "Unflatten",
    "squeeze": "Flatten",
    "add": "StateAdd",
}
"""Modules that do almost the same."""

NOT_MODULES = {
    "modulelist": "write the modules as a chain, `A >> B`, or as steps of a `flow`",
    "moduledict": "write the modules as the branches of a `split`",
    "sum": "to add the outputs of branches, use `split` with `merge: add`; to add a module to its stream, use `also`",
    "concatenate": "to join the outputs of branches, use `split` with `merge: cat`",
    "rearrange": "use `Reshape`, `Flatten` or `Unflatten`",
    "permute": "`Transpose` swaps two dimensions",
    "bidirectional": "write `bidirectional=true` in the call, as in `LSTM(_, 64, bidirectional=true)`",
    "timedistributed": "use `map`, which applies a module to each element of a dimension",
    "lambda": "register the function in Python, and call it by its name",
    "input": "write it under `inputs`, as in `inputs: {image: [B, 784]}`",
    "inputlayer": "write it under `inputs`, as in `inputs: {image: [B, 784]}`",
    "batchnormalization": "write `BatchNorm1d(_)`, `BatchNorm2d(_)` or `BatchNorm3d(_)`",
    "batchnorm": "write `BatchNorm1d(_)`, `BatchNorm2d(_)` or `BatchNorm3d(_)`",
    "max": "calls support the operators `+ - * / // % **`",
    "min": "calls support the operators `+ - * / // % **`",
    "int": "use `//` for integer division; calls support the operators `+ - * / // % **`",
    "round": "use `//` for integer division; calls support the operators `+ - * / // % **`",
    "sqrt": "use `** 0.5` for a square root; calls support the operators `+ - * / // % **`",
    "range": "write out the list",
    "len": "add the length to `params`",
}
"""The advice for names that are not modules."""

LOADING = ("pretrained", "weights", "pretrained_backbone", "weights_backbone", "checkpoint_path")
"""Arguments of other packages that load weights, as true or by name."""

ARGUMENTS = {
    "in_features": "in_dim input_dim dim_in input_size in_size in_channels",
    "out_features": "units out_dim output_dim dim_out output_size out_size hidden_size out_channels",
    "in_channels": "in_dim in_planes in_features channels",
    "out_channels": "filters out_dim out_planes out_features",
    "kernel_size": "kernel k ksize pool_size size",
    "stride": "strides",
    "padding": "pad",
    "dilation": "dilation_rate",
    "bias": "use_bias",
    "p": "rate prob drop drop_prob dropout dropout_rate",
    "dim": "axis",
    "eps": "epsilon",
    "momentum": "decay",
    "num_heads": "heads nhead n_heads num_attention_heads",
    "nhead": "heads num_heads n_heads num_attention_heads",
    "embed_dim": "d_model dim hidden_size model_dim",
    "d_model": "embed_dim dim hidden_size model_dim",
    "dim_feedforward": "ff_dim mlp_dim ffn_dim intermediate_size",
    "num_layers": "n_layers depth layers num_hidden_layers",
    "num_embeddings": "vocab_size input_dim vocab n_embeddings",
    "embedding_dim": "output_dim embed_dim dim hidden_size",
    "hidden_size": "units hidden_dim hidden",
    "negative_slope": "alpha slope",
    "scale_factor": "scale factor size",
    "num_features": "channels num_channels in_channels features",
    "normalized_shape": "dim size features hidden_size num_features",
    "num_groups": "groups",
}
"""Arguments of modules -> what other tools call them."""

AFTER = "write it as a module after the call, as in `Linear(8, 8) >> ReLU >> Dropout(0.1)`"
NO_ARGUMENTS = {
    **dict.fromkeys(("keep_prob", "keep_rate"), "write `p`, the share that is dropped: one minus this share"),
    **dict.fromkeys(("activation", "act", "act_layer"), AFTER),
    "input_shape": "remove it: shapes are those of `inputs`",
    "name": "remove it: the key of a step is its name",
    "kernel_initializer": "write `init: {weight: xavier_uniform}` beside the verb of the step",
    "kernel_regularizer": "write `weight_decay` of the `optimizer`",
    "data_format": "remove it: channels are dimension 1",
    "return_sequences": "remove it: a recurrent module returns all steps, of which `Select(-1)` takes the last one",
}
"""Arguments of modules of other tools without a counterpart -> the advice."""

DOCUMENT = {
    "label": "name",
    "flow": "layers steps nodes network backbone model modules",
    "params": "parameters hyperparameters vars args variables",
    "inputs": "input",
    "outputs": "output",
}
"""Keys of a graph document -> what other tools call them."""

STEP = {
    "from": "input inputs source",
    "tag": "name id alias",
    "using": "with_args use extra",
    "checkpoint": "weights load ckpt pretrained_weights",
    "init": "initialise initialize initializer",
    "times": "n iterations steps count",
    "tie": "tied tied_to tie_weights share_weights",
    "follows": "ema_of follow teacher_of momentum_of",
    "repeat": "n copies num_repeats",
    "with": "parameters",
    "dim": "axis",
    "merge": "combine reduce",
    "router": "gating selector",
    "take": "index output",
}
"""Keys beside a verb -> what other tools call them."""

REMOVED = "to remove a step, set it to null: `flow.NAME=null` on the command line, or in a pivot"
NO_STEP_KEYS = {
    "trainable": "use `frozen: true` to keep weights unchanged",
    "requires_grad": "use `frozen: true` to keep weights unchanged",
    "freeze": "use `frozen: true` to keep weights unchanged",
    "pretrained": "use `checkpoint: ...` to load weights",
    "activation": AFTER,
    "act": AFTER,
    "dropout": AFTER,
    "norm": AFTER,
    "normalization": AFTER,
    "outputs": "the name of a step is the name of its output; `tag: ...` adds another one",
    "if": REMOVED,
    "enabled": REMOVED,
    "optional": REMOVED,
    "shape": "shapes are inferred from `inputs`",
    "dtype": "dtypes are those of `inputs`",
    "device": "`trainer.devices` sets the devices of a run",
}
"""The advice for keys that steps do not have."""

VERBS = {
    "through": "apply call layer layers module op op_type function fn do type class class_name class_path "
    "_target_ target",
    "also": "residual shortcut add",
    "fork": "head probe",
    "split": "branch branches parallel",
    "gate": "experts moe mixture",
    "switch": "choose case cond",
    "loop": "for while until recurrent",
    "map": "foreach each for_each",
    "graph": "include mount subgraph use import",
    "reuse": "share shared same tie",
}
"""Verbs -> what other tools call them."""

MERGES = {
    "add": "sum plus +",
    "mean": "average avg",
    "mul": "prod product multiply",
    "max": "maximum",
    "cat": "concat concatenate",
}
"""Ways to merge branches."""

DTYPES = {
    "float32": "float fp32 single",
    "float64": "double fp64",
    "float16": "half fp16",
    "int64": "long int",
    "int16": "short",
    "int8": "char",
    "uint8": "byte",
    "bool": "boolean",
    "bfloat16": "bf16",
}
"""Types of inputs."""

CONFIG: dict[str, str] = {
    "model": "net network arch architecture backbone graph",
    "data": "dataset datasets datamodule dataloader dataloaders train_data train_dataset train_dataloader",
    "loss": "criterion objective cost losses",
    "metrics": "metric compute_metrics evaluators val_evaluator",
    "optimizer": "optim optimizers optim_wrapper",
    "schedule": "scheduler lr_scheduler lr_schedule lr_scheduler_type param_scheduler",
    "trainer": "training train trainer_args training_args train_cfg fit",
    "loggers": "logger logging report_to",
    "callbacks": "callback hooks custom_hooks",
    "seed": "seed_everything manual_seed random_seed random_state",
    "defaults": "include includes extends imports inherit base _base_",
    "init_from": "pretrained load_from ckpt_path weights",
    "batch_size": "bs batch train_batch_size per_device_train_batch_size samples_per_gpu "
    "imgs_per_batch micro_batch_size",
    "evaluation_batch_size": "val_batch_size eval_batch_size test_batch_size per_device_eval_batch_size",
    "workers": "num_workers dataloader_num_workers workers_per_gpu n_workers",
    "prefetch": "prefetch_factor dataloader_prefetch_factor",
    "drop_last": "dataloader_drop_last drop_remainder",
    "folder": "root data_dir data_root path dir",
    "train": "root data_dir path file",
    "file": "path data_path",
    "validation": "val val_split validation_split valid val_size valid_size",
    "test": "test_split test_size",
    "size": "imgsz img_size image_size input_size",
    "length": "block_size seq_len sequence_length max_length context_length max_seq_len",
    "augment": "transform transforms augmentation augmentations train_transform train_transforms",
    "fn": "function _target_ type name loss metric cls class class_name",
    "name": "_target_ type cls class class_name fn kind dataset dataset_name",
    "input": "pred preds prediction predictions output outputs source logits y_pred",
    "target": "y labels truth ground_truth gold targets y_true",
    "weight": "coefficient coef scale factor lambda loss_weight",
    "args": "kwargs params options arguments",
    "lr": "learning_rate base_lr initial_lr lr0",
    "weight_decay": "wd l2",
    "eps": "epsilon adam_epsilon",
    "groups": "param_groups parameter_groups params paramwise_cfg",
    "warmup": "warmup_steps num_warmup_steps warmup_iters",
    "final": "end_factor lrf",
    "factor": "gamma",
    "when": "start begin",
    "until": "end stop milestone",
    "freeze": "frozen",
    "thaw": "unfreeze unfrozen",
    "epochs": "max_epochs num_epochs n_epochs num_train_epochs nb_epochs epoch",
    "steps": "max_steps num_steps total_steps iterations max_iters n_steps train_steps",
    "devices": "gpus gpu device num_devices n_gpus num_processes",
    "nodes": "num_nodes nnodes",
    "precision": "dtype",
    "compile": "torch_compile jit_compile use_compile",
    "clip": "gradient_clip_val max_grad_norm grad_clip clip_grad clip_grad_norm grad_norm_clip",
    "clip_value": "clipvalue clip_grad_value grad_clip_value",
    "ema": "ema_decay model_ema_decay",
    "patience": "early_stopping_patience",
    "evaluate_every": "val_check_interval eval_steps",
    "checkpoint_every": "save_steps every_n_train_steps",
    "log_every": "log_every_n_steps logging_steps log_interval print_freq",
    "best": "monitor metric_for_best_model save_best",
    "find_nan": "detect_anomaly terminate_on_nan",
    "progress": "enable_progress_bar progress_bar",
    "runs": "output_dir default_root_dir log_dir save_dir work_dir project",
}
"""Keys of a training config -> what other tools call them. A word may stand for several keys, of different sections."""

PAIRS: dict[str, dict[str, str]] = {
    "accelerator": {"gpu|cuda": "devices: cuda", "(cpu|mps|auto)": r"devices: \1"},
    "device": {"gpu": "devices: cuda"},
    "devices": {"gpu|gpus": "devices: cuda", "-1|all": "devices: auto"},
    "gpus": {"-1|all": "devices: auto"},
    "amp": {"true": "precision: bf16", "false": "precision: fp32"},
    "use_amp": {"true": "precision: bf16", "false": "precision: fp32"},
    "half": {"true": "precision: fp16", "false": "precision: fp32"},
    "fp16": {"true": "precision: fp16", "false": "precision: fp32"},
    "bf16": {"true": "precision: bf16", "false": "precision: fp32"},
    "tf32": {"true": "precision: tf32", "false": "precision: fp32"},
    "mixed_precision": {"(fp16|bf16)": r"precision: \1", "true": "precision: bf16", "no|none|false": "precision: fp32"},
    "precision": {
        "16|16-mixed|16-true|float16|half": "precision: fp16",
        "bf16-mixed|bf16-true|bfloat16": "precision: bf16",
        "32|32-true|float32|full|single|highest": "precision: fp32",
        "tensorfloat32|high|medium": "precision: tf32",
    },
    "dtype": {"float16|half": "precision: fp16", "bfloat16": "precision: bf16", "float32": "precision: fp32"},
    "strategy": {
        "ddp_.*|dp|data_parallel|auto": "strategy: ddp",
        "(fsdp|deepspeed|zero|full_shard).*": "strategy: fsdp",
    },
    "mode": {"minimi[sz]e|minimum|lower": "mode: min", "maximi[sz]e|maximum|higher": "mode: max"},
    "monitor": {r"val(?:id(?:ation)?)?[_/](\w+)": r"best: val/\1", r"loss": "best: val/loss"},
    "metric_for_best_model": {r"(?:eval|val)[_/](\w+)": r"best: val/\1", r"(\w+)": r"best: val/\1"},
    "best": {r"(?:eval|valid|validation|val|test)[_/](\w+)": r"best: val/\1", "loss": "best: val/loss"},
    "check_val_every_n_epoch": {"1": "evaluate_every: 0"},
    "eval_strategy": {"epoch": "evaluate_every: 0"},
    "evaluation_strategy": {"epoch": "evaluate_every: 0"},
    "early_stopping": {r"([1-9]\d*)": r"patience: \1"},
    "early_stop": {r"([1-9]\d*)": r"patience: \1"},
    "greater_is_better": {"true": "mode: max", "false": "mode: min"},
    "evaluate_every": {"epoch": "evaluate_every: 0"},
    "checkpoint_every": {"epoch": "checkpoint_every: 0"},
    "verbose": {"0|false": "progress: false", "1|2|true": "progress: true"},
    "disable_tqdm": {"true": "progress: false", "false": "progress: true"},
}
"""A key of other tools, or one of ours with a value of theirs -> pattern of its value -> the key and value to write."""

NOT_NEEDED = {
    "shuffle": "remove it: training data is always shuffled, validation and test data never",
    "pin_memory": "remove it: memory is pinned where the device is a GPU",
    "persistent_workers": "remove it: workers stay until the run ends",
    "sampler": "remove it: the rows of each process are chosen by the trainer",
    "benchmark": "remove it: there is no such setting",
    "sync_batchnorm": "remove it: batch normalisation uses the whole batch, whatever the number of devices",
    "find_unused_parameters": "remove it: parameters that no term of the loss trains are reported by `check`",
    "early_stopping": "write `patience: 3`, the evaluations without improvement after which the run ends",
    "early_stop": "write `patience: 3`, the evaluations without improvement after which the run ends",
    "load_best_model_at_end": "remove it: the best weights are kept in the run folder, and tested",
    "save_best_only": "remove it: the best weights are kept in the run folder",
    "save_top_k": "write `keep: {best: 3}`, which keeps the weights of the three best evaluations",
    "save_total_limit": "write `keep: {best: 3}`, which keeps the weights of the three best evaluations",
    "enable_checkpointing": "remove it: the best and the last weights are kept in the run folder",
    "enable_model_summary": "remove it: `flowconf summary` prints the modules and their parameters",
    "num_sanity_val_steps": "remove it: the config is checked before it is run",
    "overfit_batches": "remove it: there is no such setting",
    "fast_dev_run": "write `steps: 1`",
    "resume": "resume a run on the command line: `flowconf train --resume RUN`",
    "resume_from": "resume a run on the command line: `flowconf train --resume RUN`",
    "resume_from_checkpoint": "resume a run on the command line: `flowconf train --resume RUN`",
    "goal": "write the value to search by as `best`, a key of `trainer`",
    "objective": "write the value to search by as `best`, a key of `trainer`",
    "direction": "write `mode: min` or `mode: max`, a key of `trainer`",
    "storage": "remove it: a search is stored in its folder, and resumed by `flowconf train --resume FOLDER`",
    "do_train": "the command says what is done: `flowconf train`, `eval` or `predict`",
    "do_eval": "the command says what is done: `flowconf train`, `eval` or `predict`",
    "do_predict": "the command says what is done: `flowconf train`, `eval` or `predict`",
    "overwrite_output_dir": "remove it: every run has a new folder",
    "exist_ok": "remove it: every run has a new folder",
    "zero_grad": "remove it: gradients are cleared before every step",
    "retain_graph": "remove it: all terms of the loss share one backward pass",
    "check_val_every_n_epoch": "write `evaluate_every: {epoch: 5}`; without it, every epoch is evaluated",
    "T_max": "remove it: a schedule spans the whole run",
    "t_max": "remove it: a schedule spans the whole run",
    "num_training_steps": "remove it: a schedule spans the whole run",
    "warmup_ratio": "write `warmup: {fraction: 0.1}`",
    "decay": "write `weight_decay`, or a `schedule` for a decay of the learning rate",
    "clipnorm": "write `clip`, the largest norm of all gradients together",
    "limit_train_batches": "write `sample: {rows: 1000}` under `data`, the rows that are drawn in an epoch",
    "limit_val_batches": "remove it: every evaluation is of a whole split",
    "steps_per_epoch": "write `sample: {rows: 1000}` under `data`, the rows that are drawn in an epoch",
    "validation_data": "write `validation: 0.1` under `data`, or the file or folder that the data set takes",
    "no_decay": "write `groups: {'**:bias': {weight_decay: 0}, '**:norm': {weight_decay: 0}}`",
    "reduction": "remove it: a loss is the mean of its elements; `weight` multiplies it",
    **dict.fromkeys(
        ("beta_1", "beta_2", "beta1", "beta2", "adam_beta1", "adam_beta2"), "write both as `betas: [0.9, 0.999]`"
    ),
    "gradient_clip_algorithm": "remove it: `clip` limits the norm of all gradients, `clip_value` each value",
    "max_lr": "write it as `lr`: a schedule has factors of it, of which the largest is 1",
    **dict.fromkeys(("milestones", "step_size"), "write `at`, progress from 0 to 1, as in `at: [0.5, 0.75]`"),
    **dict.fromkeys(("warmup_epochs", "num_warmup_epochs"), "write `warmup: {epoch: 2}`"),
    **dict.fromkeys(
        ("eta_min", "min_lr", "final_lr"),
        "write `final`, or `lowest` of a plateau: a factor of `lr`, so this rate divided by `lr`",
    ),
    **dict.fromkeys(
        ("accumulate_grad_batches", "gradient_accumulation_steps", "grad_accum", "accum_iter", "accumulation_steps"),
        "write `accumulate`, the parts that a batch is divided into: `batch_size` counts the rows of all of them",
    ),
    **dict.fromkeys(
        ("eval_every", "eval_interval", "val_every", "val_interval"),
        "write `evaluate_every`, a number of steps, or `{epoch: 5}`",
    ),
    **dict.fromkeys(
        ("save_every", "save_interval", "checkpoint_interval"),
        "write `checkpoint_every`, a number of steps, or `{epoch: 5}`",
    ),
    "wandb": "write `loggers: {wandb: {}}` at the top level of the config",
    "mlflow": "write `loggers: {mlflow: {}}` at the top level of the config",
    "num_classes": "the last module of the graph gives the classes, as in `Linear(_, 10)`",
}
"""Keys of other tools without a counterpart, or with another meaning -> the advice."""

LOSS_ARGUMENTS = {
    "weight": "class_weight class_weights weights",
    "ignore_index": "ignore pad_id padding_idx ignore_label",
    "label_smoothing": "smoothing label_smooth epsilon",
    "pos_weight": "positive_weight",
    "dim": "axis",
    "top": "topk top_k k",
    "value": "monitor",
}
"""Arguments of losses and metrics, below `args`, and of schedules -> what other tools call them."""
